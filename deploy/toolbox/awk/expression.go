package awk

// expression reads what has the lowest precedence: assignments and conditionals, which go from the right.
func (p *parser) expression() expr {
	left := p.either()
	if p.take("?") {
		p.lines()
		yes := p.expression()
		p.lines()
		p.expect(":")
		p.lines()
		return &conditional{test: left, yes: yes, no: p.expression()}
	}
	if p.token.kind == symbol && isTarget(left) {
		switch operator := p.token.text; operator {
		case "=":
			p.advance()
			p.lines()
			return &assign{target: left, from: p.expression()}
		case "+=", "-=", "*=", "/=", "%=", "^=":
			p.advance()
			p.lines()
			return &assign{target: left, operator: operator[:1], from: p.expression()}
		}
	}
	return left
}

func isTarget(of expr) bool {
	switch of.(type) {
	case *variable, *field, *element:
		return true
	}
	return false
}

func (p *parser) either() expr {
	left := p.both()
	for p.take("||") {
		p.lines()
		left = &logical{left: left, right: p.both()}
	}
	return left
}

func (p *parser) both() expr {
	left := p.membership()
	for p.take("&&") {
		p.lines()
		left = &logical{and: true, left: left, right: p.membership()}
	}
	return left
}

func (p *parser) membership() expr {
	left := p.matching()
	for p.noIn == 0 && p.take("in") {
		index := []expr{left}
		if several, ok := left.(*list); ok {
			index = several.of
		}
		left = &contains{index: index, array: p.variable(p.token.text)}
		p.advance()
	}
	return left
}

func (p *parser) matching() expr {
	left := p.comparison()
	for p.is("~") || (p.is("!") && p.peekTilde()) {
		not := p.take("!")
		p.expect("~")
		left = &matches{not: not, of: left, with: p.comparison()}
	}
	return left
}

// peekTilde tells whether the token after this one is a tilde: `!~` is two.
func (p *parser) peekTilde() bool {
	before := p.lexer
	next := p.lexer.next()
	p.lexer = before
	return next.kind == symbol && next.text == "~"
}

func (p *parser) comparison() expr {
	left := p.concatenation(false)
	if p.noMore == 0 && p.is("|") {
		left = p.piped(left)
	}
	for _, operator := range []string{"<", "<=", "==", "!=", ">=", ">"} {
		if p.is(operator) && !(operator == ">" && p.noMore > 0) {
			p.advance()
			return &binary{operator: operator, left: left, right: p.concatenation(false)}
		}
	}
	return left
}

// piped is a command whose output is read.
func (p *parser) piped(left expr) expr {
	for p.take("|") {
		p.expect("getline")
		left = &getline{file: left, pipe: true, target: p.lineTarget()}
	}
	return left
}

func (p *parser) concatenation(one bool) expr {
	left := p.sum()
	for !one && p.begins() {
		left = &binary{operator: " ", left: left, right: p.sum()}
	}
	return left
}

// begins tells whether an operand begins here that is joined to the one before. A sign is no beginning: it adds.
func (p *parser) begins() bool {
	switch p.token.kind {
	case number, text, regular, name, function:
		return true
	case symbol:
		switch p.token.text {
		case "$", "(", "++", "--":
			return true
		case "!":
			return !p.peekTilde()
		}
	}
	return false
}

func (p *parser) sum() expr {
	left := p.product()
	for p.is("+") || p.is("-") {
		operator := p.token.text
		p.advance()
		left = &binary{operator: operator, left: left, right: p.product()}
	}
	return left
}

func (p *parser) product() expr {
	left := p.signed()
	for p.is("*") || p.is("/") || p.is("%") {
		operator := p.token.text
		p.advance()
		left = &binary{operator: operator, left: left, right: p.signed()}
	}
	return left
}

func (p *parser) signed() expr {
	for _, operator := range []string{"!", "-", "+"} {
		if p.take(operator) {
			return &unary{operator: operator, of: p.signed()}
		}
	}
	return p.power()
}

func (p *parser) power() expr {
	left := p.postfix()
	if p.take("^") {
		return &binary{operator: "^", left: left, right: p.signed()} // from the right
	}
	return left
}

func (p *parser) postfix() expr {
	left := p.primary()
	if isTarget(left) {
		if p.take("++") {
			return &increment{target: left, by: 1}
		}
		if p.take("--") {
			return &increment{target: left, by: -1}
		}
	}
	return left
}

func (p *parser) primary() expr {
	found := p.token
	switch found.kind {
	case number:
		p.advance()
		return &constant{numeric(found.num)}
	case text:
		p.advance()
		return &constant{str(found.text)}
	case regular:
		p.advance()
		return &match{with: p.regular(found.text)}
	case name:
		p.advance()
		return p.named(found.text)
	case function:
		p.advance()
		p.expect("(")
		return &call{name: found.text, args: p.expressions(")")}
	}
	switch {
	case p.take("$"):
		if p.take("++") {
			return &field{index: &increment{target: p.primary(), by: 1, before: true}}
		}
		if p.take("-") {
			return &field{index: &unary{operator: "-", of: p.primary()}}
		}
		return &field{index: p.primary()}
	case p.take("++"):
		return &increment{target: p.primary(), by: 1, before: true}
	case p.take("--"):
		return &increment{target: p.primary(), by: -1, before: true}
	case p.take("("):
		items := p.expressions(")")
		switch len(items) {
		case 0:
			p.unexpected("expected an expression")
		case 1:
			return &group{of: items[0]}
		}
		return &list{of: items}
	case p.take("getline"):
		read := &getline{target: p.lineTarget()}
		if p.take("<") {
			read.file = p.postfix()
		}
		return read
	}
	p.unexpected("expected an expression")
	return nil
}

func (p *parser) named(called string) expr {
	found := &variable{name: called, local: -1}
	for i, local := range p.locals {
		if local == called {
			found.local = i
		}
	}
	if p.take("[") {
		return &element{array: found, index: p.expressions("]")}
	}
	if called == "length" && found.local < 0 {
		return &call{name: called}
	}
	return found
}

// lineTarget is where getline puts a line, if that is said.
func (p *parser) lineTarget() expr {
	if p.token.kind == name || p.is("$") {
		return p.primary()
	}
	return nil
}
