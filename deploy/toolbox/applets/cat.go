package applets

import (
	"bufio"
	"io"

	"vkubelet.local/toolbox/call"
)

func cat(c *call.Call) int {
	options := c.Options("nu", call.Long{"number": 'n'}, 1)
	number := 0
	block := call.Block()
	for _, name := range inputs(c.Args) {
		eachFile(c, name, func(file io.Reader) error {
			if options.Has('n') {
				return numberLines(c, file, &number)
			}
			// Whole blocks pass the buffer by.
			_, err := call.CopyBuffer(c.Out, file, block)
			return err
		})
	}
	return 0
}

func numberLines(c *call.Call, file io.Reader, number *int) error {
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			*number++
			c.Print("%6d\t%s", *number, line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// inputs are the files that are named, or else standard input.
func inputs(names []string) []string {
	if len(names) == 0 {
		return []string{"-"}
	}
	return names
}

// eachFile opens an input, reports what goes wrong with it, and tells whether nothing did.
func eachFile(c *call.Call, name string, use func(io.Reader) error) bool {
	file, err := c.Open(name)
	if err == nil {
		defer file.Close()
		err = use(file)
	}
	if err != nil {
		c.Fail(name, err)
	}
	return err == nil
}
