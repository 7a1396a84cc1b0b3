package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// lifelineFD is the child's end of a pipe that nobody writes to: it ends with the supervisor.
	lifelineFD = 3
	// stopTimeout is how long a component may take to end by itself. The API server alone would wait a
	// minute for open watches, which are other people's.
	stopTimeout = 3 * time.Second
)

// children are the component processes, in the order in which they were started.
type children struct {
	directory *dataDir
	failed    context.CancelCauseFunc
	more      map[string][]string
	running   []*child
}

type child struct {
	name     string
	process  *os.Process
	lifeline *os.File
	stopping chan struct{}
	done     chan struct{}
}

// start runs this binary as the component. A component that ends by itself fails the whole cluster, with
// the place of its log: half a control plane is harder to understand than none.
func (c *children) start(name string, arguments []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := c.directory.log(name)
	if err != nil {
		return err
	}
	defer log.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	command := exec.Command(self, slices.Concat([]string{name}, arguments, c.more[name])...)
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{theirs}
	// An own process group: an interrupt from the terminal is the supervisor's, which stops in order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		ours.Close()
		return fmt.Errorf("%s: %w", name, err)
	}
	started := &child{
		name: name, process: command.Process, lifeline: ours,
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(started.done)
		err := command.Wait()
		select {
		case <-started.stopping:
		default:
			if err == nil {
				err = errors.New("exit status 0")
			}
			c.failed(fmt.Errorf("%s ended: %w; its log is %s", name, err, log.Name()))
		}
	}()
	c.running = append(c.running, started)
	return nil
}

// stop ends what runs, last started first.
func (c *children) stop() {
	for index := len(c.running) - 1; index >= 0; index-- {
		c.running[index].stop()
	}
	c.running = nil
}

func (c *child) stop() {
	defer c.lifeline.Close()
	close(c.stopping)
	if err := c.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		warn("%s: %v", c.name, err)
	}
	select {
	case <-c.done:
		return
	case <-time.After(stopTimeout):
	}
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		warn("%s: %v", c.name, err)
	}
	<-c.done
}

func number(value int) string { return strconv.Itoa(value) }
