package awk

import (
	"fmt"
	"strconv"
	"strings"
)

type kind int

const (
	end kind = iota
	newline
	number
	text
	regular
	name
	function // a name directly followed by a parenthesis
	keyword
	symbol
)

type token struct {
	kind kind
	text string // of a string or a regular expression its value
	num  float64
}

var keywords = map[string]bool{
	"BEGIN": true, "END": true, "break": true, "continue": true, "delete": true, "do": true, "else": true,
	"exit": true, "for": true, "func": true, "function": true, "getline": true, "if": true, "in": true,
	"next": true, "nextfile": true, "print": true, "printf": true, "return": true, "while": true,
}

// symbols in the order in which they must be tried.
var symbols = []string{
	"**=", "&&", "||", "==", "!=", "<=", ">=", ">>", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "**",
	"{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", "<", ">", "|", "?", ":", "~", "$", "=",
}

// lexer gives tokens one by one: whether a slash divides depends on what comes before it.
type lexer struct {
	source string
	at     int
	line   int
	last   token
}

// fault is a program that cannot be read or run; its text is for people.
type fault string

func (f fault) Error() string { return string(f) }

func (l *lexer) fail(format string, values ...any) {
	panic(fault(fmt.Sprintf("line %d: %s", l.line, fmt.Sprintf(format, values...))))
}

// operand tells whether the last token ends an operand, so that a slash divides.
func (l *lexer) operand() bool {
	switch l.last.kind {
	case number, text, regular, name:
		return true
	case keyword:
		return l.last.text == "getline"
	case symbol:
		return l.last.text == ")" || l.last.text == "]" || l.last.text == "$" || l.last.text == "++" || l.last.text == "--"
	}
	return false
}

func (l *lexer) next() token {
	l.last = l.read()
	return l.last
}

func (l *lexer) read() token {
	l.blanks()
	if l.at == len(l.source) {
		return token{kind: end}
	}
	rest := l.source[l.at:]
	switch b := rest[0]; {
	case b == '\n':
		l.at++
		l.line++
		return token{kind: newline, text: "\n"}
	case b == '"':
		return l.quoted()
	case b == '/' && !l.operand():
		return l.regular()
	case isDigit(b) || (b == '.' && len(rest) > 1 && isDigit(rest[1])):
		length := numberLength(rest)
		l.at += length
		value, err := strconv.ParseFloat(rest[:length], 64)
		if err != nil && value == 0 {
			l.fail("bad number %s", rest[:length])
		}
		return token{kind: number, text: rest[:length], num: value}
	case isLetter(b):
		length := 1
		for length < len(rest) && (isLetter(rest[length]) || isDigit(rest[length])) {
			length++
		}
		l.at += length
		word := rest[:length]
		if keywords[word] {
			return token{kind: keyword, text: word}
		}
		if length < len(rest) && rest[length] == '(' {
			return token{kind: function, text: word}
		}
		return token{kind: name, text: word}
	}
	for _, candidate := range symbols {
		if strings.HasPrefix(rest, candidate) {
			l.at += len(candidate)
			return token{kind: symbol, text: strings.Replace(candidate, "**", "^", 1)}
		}
	}
	l.fail("unexpected character %q", rest[0])
	return token{}
}

// blanks skips spaces, comments and lines that are continued.
func (l *lexer) blanks() {
	for l.at < len(l.source) {
		switch rest := l.source[l.at:]; {
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			l.at++
		case strings.HasPrefix(rest, "\\\n"):
			l.at += 2
			l.line++
		case rest[0] == '#':
			if length := strings.IndexByte(rest, '\n'); length >= 0 {
				l.at += length
			} else {
				l.at = len(l.source)
			}
		default:
			return
		}
	}
}

func (l *lexer) quoted() token {
	for at := l.at + 1; at < len(l.source); at++ {
		switch l.source[at] {
		case '\\':
			at++
		case '\n':
			l.fail("a string is not ended")
		case '"':
			content := l.source[l.at+1 : at]
			l.at = at + 1
			return token{kind: text, text: unescape(content)}
		}
	}
	l.fail("a string is not ended")
	return token{}
}

func (l *lexer) regular() token {
	inBracket := false
	for at := l.at + 1; at < len(l.source); at++ {
		switch b := l.source[at]; {
		case b == '\\':
			at++
		case b == '\n':
			l.fail("a regular expression is not ended")
		case b == '[' && !inBracket:
			inBracket = true
			// A bracket that comes first is one of those that are meant.
			if strings.HasPrefix(l.source[at+1:], "^]") {
				at += 2
			} else if strings.HasPrefix(l.source[at+1:], "]") {
				at++
			}
		case b == ']':
			inBracket = false
		case b == '/' && !inBracket:
			content := l.source[l.at+1 : at]
			l.at = at + 1
			return token{kind: regular, text: strings.ReplaceAll(content, `\/`, "/")}
		}
	}
	l.fail("a regular expression is not ended")
	return token{}
}

// unescape resolves the escapes of a string; one that is none stays as it is written, for regular expressions.
func unescape(content string) string {
	if strings.IndexByte(content, '\\') < 0 {
		return content
	}
	plain := map[byte]byte{
		'n': '\n', 't': '\t', 'r': '\r', '\\': '\\', '"': '"', '/': '/', 'a': 7, 'b': 8, 'f': 12, 'v': 11,
	}
	var out strings.Builder
	for at := 0; at < len(content); at++ {
		if content[at] != '\\' || at+1 == len(content) {
			out.WriteByte(content[at])
			continue
		}
		at++
		if value, known := plain[content[at]]; known {
			out.WriteByte(value)
			continue
		}
		if content[at] >= '0' && content[at] <= '7' {
			value, digits := 0, 0
			for digits < 3 && at+digits < len(content) && content[at+digits] >= '0' && content[at+digits] <= '7' {
				value = value*8 + int(content[at+digits]-'0')
				digits++
			}
			at += digits - 1
			out.WriteByte(byte(value))
			continue
		}
		out.WriteByte('\\')
		out.WriteByte(content[at])
	}
	return out.String()
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isLetter(b byte) bool { return b == '_' || (b|0x20 >= 'a' && b|0x20 <= 'z') }

// numberLength is how much of the beginning of a text is a decimal number.
func numberLength(s string) int {
	at := 0
	digits := func() int {
		begin := at
		for at < len(s) && isDigit(s[at]) {
			at++
		}
		return at - begin
	}
	found := digits()
	if at < len(s) && s[at] == '.' {
		at++
		found += digits()
	}
	if found == 0 {
		return 0
	}
	if at < len(s) && s[at]|0x20 == 'e' {
		before := at
		at++
		if at < len(s) && (s[at] == '+' || s[at] == '-') {
			at++
		}
		if digits() == 0 {
			at = before
		}
	}
	return at
}
