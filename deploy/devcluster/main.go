// Command devcluster is a Kubernetes control plane for development and tests: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and an OCI registry from their own modules, in one binary, on
// loopback, without root and without a container engine.
//
// One process supervises: it holds etcd, the registry and the approver of kubelet serving certificates,
// and runs each Kubernetes component as a child of the same binary, because a component owns its process
// (klog, feature gates, signal handlers and os.Exit are global in it). It knows nothing of the node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	dataDir      string
	defaultPorts bool
	etcdFsync    bool
	readyFD      int
	lifelineFD   int
	readyTimeout time.Duration
	// more are further arguments for components, by name; a later one overrides an earlier one.
	more map[string][]string
}

func main() {
	if len(os.Args) > 1 {
		if newCommand, known := components[os.Args[1]]; known {
			os.Exit(runComponent(newCommand, os.Args[2:]))
		}
	}
	options, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
}

func parseOptions(arguments []string) (options, error) {
	chosen := options{more: map[string][]string{}}
	flags := flag.NewFlagSet("devcluster", flag.ContinueOnError)
	flags.StringVar(&chosen.dataDir, "data-dir", "", "directory of everything: keys, data, logs (required)")
	flags.BoolVar(&chosen.defaultPorts, "default-ports", true,
		"prefer the well-known ports (6443, 5000, ...) where they are free; the ports chosen are remembered")
	flags.BoolVar(&chosen.etcdFsync, "etcd-fsync", false,
		"make etcd wait for the disk. Off, nothing is lost when a process is killed, only when the machine is; "+
			"on, every write of the cluster costs a flush, which on laptop disks is most of a pod's start")
	flags.IntVar(&chosen.readyFD, "ready-fd", -1,
		"an inherited file descriptor that gets the ready file's text once the cluster is ready, then is closed")
	flags.IntVar(&chosen.lifelineFD, "lifeline-fd", -1,
		"an inherited file descriptor at whose end (of file) the cluster ends: for tests, which may be killed")
	flags.DurationVar(&chosen.readyTimeout, "ready-timeout", 2*time.Minute, "give up when not ready after this time")
	for name := range components {
		flags.Func(name+"-arg", "a further `argument` for "+name+", like --"+name+"-arg=--v=4; may be repeated",
			func(argument string) error {
				chosen.more[name] = append(chosen.more[name], argument)
				return nil
			})
	}
	if err := flags.Parse(arguments); err != nil {
		return options{}, err
	}
	if chosen.dataDir == "" {
		return options{}, errors.New("--data-dir is required")
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected arguments %q", flags.Args())
	}
	return chosen, nil
}

// run brings the cluster up, waits for a signal or for the first part that fails, and takes it down in
// reverse order, so that the API server ends before its store.
func run(ctx context.Context, options options) (err error) {
	dropProxies()
	for _, inherited := range []int{options.readyFD, options.lifelineFD} {
		if inherited >= 0 {
			// Whoever waits for its end must not wait for the components, which would inherit it.
			syscall.CloseOnExec(inherited)
		}
	}
	directory, err := openDataDir(options.dataDir)
	if err != nil {
		return err
	}
	defer directory.close()
	ports, err := choosePorts(directory, options.defaultPorts)
	if err != nil {
		return err
	}
	credentials, err := ensureCredentials(directory, ports)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if options.lifelineFD >= 0 {
		go func() {
			awaitEnd(options.lifelineFD)
			cancel(nil)
		}()
	}
	store, err := startEtcd(ctx, directory, ports, options.etcdFsync)
	if err != nil {
		return err
	}
	defer store.Close()
	go func() {
		if failure, open := <-store.Err(); open && failure != nil {
			cancel(fmt.Errorf("etcd: %w", failure))
		}
	}()
	registry, err := startRegistry(directory, ports, cancel)
	if err != nil {
		return err
	}
	defer registry.stop()

	family := &children{directory: directory, failed: cancel, more: options.more}
	defer family.stop()
	starting, giveUp := context.WithTimeoutCause(ctx, options.readyTimeout,
		fmt.Errorf("not ready after %s; logs are in %s", options.readyTimeout, directory.path("logs")))
	defer giveUp()
	if err := bringUp(ctx, starting, family, directory, ports, credentials); err != nil {
		return ended(starting, err)
	}
	if err := announce(directory, ports, options.readyFD); err != nil {
		return err
	}
	defer directory.retract()
	<-ctx.Done()
	return ended(ctx, nil)
}

// bringUp starts the components and returns once all of them serve. What it starts lives as long as `ctx`.
func bringUp(ctx, starting context.Context, family *children, directory *dataDir, ports ports, with credentials) error {
	if err := family.start("kube-apiserver", apiserverArguments(directory, ports)); err != nil {
		return err
	}
	probe, err := newProbe(with)
	if err != nil {
		return err
	}
	if err := probe.until(starting, ports.url(ports.APIServer)+"/livez"); err != nil {
		return err
	}
	if err := family.start("kube-controller-manager", controllerManagerArguments(directory, ports)); err != nil {
		return err
	}
	if err := family.start("kube-scheduler", schedulerArguments(directory, ports)); err != nil {
		return err
	}
	if err := probe.until(starting, ports.url(ports.APIServer)+"/readyz"); err != nil {
		return err
	}
	if err := ensureObjects(starting, with); err != nil {
		return err
	}
	if err := startApprover(ctx, with); err != nil {
		return err
	}
	for _, url := range []string{
		ports.url(ports.ControllerManager) + "/healthz",
		ports.url(ports.Scheduler) + "/readyz",
		"http://" + ports.registryAddress() + "/v2/",
	} {
		if err := probe.until(starting, url); err != nil {
			return err
		}
	}
	return defaultServiceAccount(starting, with)
}

// ended is what to report when a context is over: the failure that ended it, or nothing after a signal.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// dropProxies keeps a proxy for the internet out of calls to this machine's own addresses.
func dropProxies() {
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy"} {
		os.Unsetenv(name)
		os.Unsetenv(strings.ToUpper(name))
	}
}
