package awk

import "regexp"

// Expressions. Each is evaluated by the interpreter's `eval`.
type (
	expr interface{}

	constant struct{ value value }
	match    struct{ with *regexp.Regexp } // a regular expression by itself: does the record match it?
	variable struct {
		name  string
		local int // the place in a function's frame, -1 for a global
	}
	field   struct{ index expr }
	element struct {
		array *variable
		index []expr
	}
	assign struct {
		target   expr
		operator string // "" or one of + - * / % ^
		from     expr
	}
	increment struct {
		target expr
		by     float64
		before bool
	}
	unary struct {
		operator string
		of       expr
	}
	binary struct {
		operator    string
		left, right expr
	}
	logical struct {
		and         bool
		left, right expr
	}
	conditional struct{ test, yes, no expr }
	matches     struct {
		not      bool
		of, with expr
	}
	contains struct {
		index []expr
		array *variable
	}
	group struct{ of expr } // in parentheses, which `print` tells from a list
	list  struct{ of []expr }
	call  struct {
		name string
		args []expr
	}
	getline struct {
		target expr // nil for the record
		file   expr // nil for the next of the input
		pipe   bool // `file` is a command
	}
)

// Statements.
type (
	statement interface{}

	simple struct{ of expr }
	block  struct{ of []statement }
	output struct {
		formatted bool
		args      []expr
		to        expr   // nil for standard output
		operator  string // of the redirection
	}
	branch struct {
		test    expr
		yes, no statement
	}
	loop struct {
		first statement
		test  expr
		after statement
		body  statement
		once  bool // the body runs before the first test
	}
	each struct {
		variable, array *variable
		body            statement
	}
	remove struct {
		array *variable
		index []expr // nil for all of it
	}
	leave struct {
		how  string // break, continue, next, nextfile, exit, return
		with expr
	}
)

// rule is a pattern with its action; without an action the record is printed.
type rule struct {
	from, to expr // `to` for a range
	action   *block
	within   bool // of the range
}

type procedure struct {
	parameters []string
	body       *block
}

// Program is what was read; it can be run once.
type Program struct {
	begin, end []*block
	rules      []*rule
	procedures map[string]*procedure
}
