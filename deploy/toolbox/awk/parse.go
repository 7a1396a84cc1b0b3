// Package awk is the language awk, as POSIX has it.
//
// It exists because scripts take columns apart with it everywhere. It must not know files or processes: what a
// program reads, writes and runs is given to it.
package awk

import (
	"regexp"
	"slices"
)

// Compile makes an extended regular expression of POSIX one of Go's.
type Compile func(pattern string) (*regexp.Regexp, error)

type parser struct {
	lexer   lexer
	token   token
	compile Compile
	program *Program
	locals  []string
	noIn    int // inside a for's head, where `in` is the statement's own
	noMore  int // inside the arguments of print, where > redirects
}

// Parse reads a program. The error tells the line.
func Parse(source string, compile Compile) (program *Program, err error) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case fault:
			program, err = nil, reason
		default:
			panic(reason)
		}
	}()
	p := &parser{lexer: lexer{source: source, line: 1}, compile: compile}
	p.program = &Program{procedures: map[string]*procedure{}}
	p.advance()
	for p.skip(); p.token.kind != end; p.skip() {
		p.item()
	}
	return p.program, nil
}

func (p *parser) advance() { p.token = p.lexer.next() }

func (p *parser) is(text string) bool {
	return (p.token.kind == symbol || p.token.kind == keyword) && p.token.text == text
}

func (p *parser) take(text string) bool {
	if p.is(text) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.take(text) {
		p.unexpected("expected %q", text)
	}
}

func (p *parser) unexpected(format string, values ...any) {
	found := p.token.text
	if p.token.kind == end {
		found = "the end"
	}
	p.lexer.fail("unexpected %q: "+format, append([]any{found}, values...)...)
}

// lines skips ends of lines, skip those and semicolons.
func (p *parser) lines() {
	for p.token.kind == newline {
		p.advance()
	}
}

func (p *parser) skip() {
	for p.token.kind == newline || p.is(";") {
		p.advance()
	}
}

func (p *parser) item() {
	switch {
	case p.take("BEGIN"):
		p.program.begin = append(p.program.begin, p.block())
	case p.take("END"):
		p.program.end = append(p.program.end, p.block())
	case p.take("function") || p.take("func"):
		p.procedure()
	default:
		found := &rule{}
		if !p.is("{") {
			found.from = p.expression()
			if p.take(",") {
				p.lines()
				found.to = p.expression()
			}
		}
		if p.is("{") {
			found.action = p.block()
		}
		p.program.rules = append(p.program.rules, found)
	}
}

func (p *parser) procedure() {
	if p.token.kind != name && p.token.kind != function {
		p.unexpected("expected a function's name")
	}
	called := p.token.text
	p.advance()
	p.expect("(")
	found := &procedure{}
	for !p.is(")") {
		if p.token.kind != name {
			p.unexpected("expected a parameter")
		}
		found.parameters = append(found.parameters, p.token.text)
		p.advance()
		if !p.take(",") {
			break
		}
		p.lines()
	}
	p.expect(")")
	p.lines()
	p.locals = found.parameters
	found.body = p.block()
	p.locals = nil
	p.program.procedures[called] = found
}

func (p *parser) block() *block {
	p.lines()
	p.expect("{")
	found := &block{}
	for p.skip(); !p.is("}"); p.skip() {
		if p.token.kind == end {
			p.unexpected("expected %q", "}")
		}
		found.of = append(found.of, p.statement())
	}
	p.advance()
	return found
}

// finish is the end of a simple statement.
func (p *parser) finish() {
	if p.token.kind == newline || p.is(";") {
		p.advance()
	} else if !p.is("}") && p.token.kind != end {
		p.unexpected("expected the end of a statement")
	}
}

// body is the statement that another one has, on this line or the next.
func (p *parser) body() statement {
	if p.take(";") {
		return &block{}
	}
	p.lines()
	return p.statement()
}

func (p *parser) statement() statement {
	switch {
	case p.is("{"):
		return p.block()
	case p.take("if"):
		found := &branch{test: p.parenthesized()}
		found.yes = p.body()
		before, here := p.lexer, p.token
		p.skip()
		if p.take("else") {
			found.no = p.body()
		} else {
			p.lexer, p.token = before, here
		}
		return found
	case p.take("while"):
		return &loop{test: p.parenthesized(), body: p.body()}
	case p.take("do"):
		found := &loop{body: p.body(), once: true}
		p.skip()
		p.expect("while")
		found.test = p.parenthesized()
		p.finish()
		return found
	case p.take("for"):
		return p.iteration()
	}
	found := p.simple()
	p.finish()
	return found
}

func (p *parser) parenthesized() expr {
	p.expect("(")
	found := p.expression()
	p.expect(")")
	return found
}

func (p *parser) iteration() statement {
	p.expect("(")
	found := &loop{}
	if !p.is(";") {
		p.noIn++
		found.first = p.simple()
		p.noIn--
		if p.take("in") {
			over, ok := found.first.(*simple)
			variable, plain := over.of.(*variable)
			if !ok || !plain || p.token.kind != name {
				p.unexpected("expected (NAME in ARRAY)")
			}
			array := p.variable(p.token.text)
			p.advance()
			p.expect(")")
			return &each{variable: variable, array: array, body: p.body()}
		}
	}
	p.expect(";")
	p.lines()
	if !p.is(";") {
		found.test = p.expression()
	}
	p.expect(";")
	p.lines()
	if !p.is(")") {
		found.after = p.simple()
	}
	p.expect(")")
	found.body = p.body()
	return found
}

func (p *parser) simple() statement {
	for _, word := range []string{"break", "continue", "next", "nextfile", "exit", "return"} {
		if p.take(word) {
			found := &leave{how: word}
			if (word == "exit" || word == "return") && !p.ends() {
				found.with = p.expression()
			}
			return found
		}
	}
	switch {
	case p.take("delete"):
		found := &remove{array: p.variable(p.token.text)}
		p.advance()
		if p.take("[") {
			found.index = p.expressions("]")
		}
		return found
	case p.is("print") || p.is("printf"):
		found := &output{formatted: p.is("printf")}
		p.advance()
		p.noMore++
		if !p.ends() && !p.is(">") && !p.is(">>") && !p.is("|") {
			found.args = []expr{p.expression()}
			for p.take(",") {
				p.lines()
				found.args = append(found.args, p.expression())
			}
		}
		p.noMore--
		if items, ok := found.args, len(found.args) == 1; ok {
			if several, ok := items[0].(*list); ok {
				found.args = several.of
			}
		}
		for _, operator := range []string{">>", ">", "|"} {
			if p.take(operator) {
				found.operator = operator
				found.to = p.concatenation(true)
				break
			}
		}
		return found
	}
	return &simple{of: p.expression()}
}

func (p *parser) ends() bool {
	return p.token.kind == newline || p.token.kind == end || p.is(";") || p.is("}")
}

// expressions are those up to a closing symbol, which is taken.
func (p *parser) expressions(closing string) []expr {
	var found []expr
	before, more := p.noIn, p.noMore
	p.noIn, p.noMore = 0, 0
	for p.lines(); !p.is(closing); p.lines() {
		found = append(found, p.expression())
		p.lines()
		if !p.take(",") {
			break
		}
	}
	p.noIn, p.noMore = before, more
	p.expect(closing)
	return found
}

func (p *parser) variable(called string) *variable {
	if p.token.kind != name && p.token.kind != function {
		p.unexpected("expected a name")
	}
	return &variable{name: called, local: slices.Index(p.locals, called)}
}

func (p *parser) regular(pattern string) *regexp.Regexp {
	compiled, err := p.compile(pattern)
	if err != nil {
		p.lexer.fail("regular expression /%s/: %v", pattern, err)
	}
	return compiled
}
