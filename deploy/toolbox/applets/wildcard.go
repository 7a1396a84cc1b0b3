package applets

import (
	"regexp"

	"mvdan.cc/sh/v3/pattern"
)

// wildcard is a shell's pattern, in which `*` matches a slash too.
func wildcard(text string) (func(string) bool, error) {
	expression, err := pattern.Regexp(text, pattern.EntireString)
	if err != nil {
		return nil, err
	}
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	return compiled.MatchString, nil
}
