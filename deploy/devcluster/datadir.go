package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dataDir is the one directory that a cluster lives in. It is held by a lock for as long as the process
// lives, so that a second cluster on the same data refuses instead of corrupting it, and so that anyone
// can tell a running cluster from what a killed one left behind.
type dataDir struct {
	root string
	lock *os.File
}

func openDataDir(root string) (*dataDir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"", "pki", "logs", "etcd", "registry"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	directory := &dataDir{root: root, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", lock.Name(), err)
		}
		holder, _ := os.ReadFile(lock.Name())
		return nil, fmt.Errorf("data directory %s is in use by process %s", root, strings.TrimSpace(string(holder)))
	}
	directory.retract()
	if err := lock.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, err
	}
	return directory, nil
}

func (d *dataDir) close() { d.lock.Close() }

func (d *dataDir) path(elements ...string) string {
	return filepath.Join(append([]string{d.root}, elements...)...)
}

func (d *dataDir) pki(name string) string { return d.path("pki", name) }

// log opens a component's log for appending and keeps the log of the run before as NAME.log.1.
func (d *dataDir) log(name string) (*os.File, error) {
	path := d.path("logs", name+".log")
	if err := os.Rename(path, path+".1"); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// retract removes the ready file: from here on the cluster is not ready, or no more.
func (d *dataDir) retract() {
	if err := os.Remove(d.path("ready")); err != nil && !os.IsNotExist(err) {
		warn("ready file: %v", err)
	}
}

// writeWhole replaces a file so that a reader, or a crash, finds the old or the new text and no third.
func writeWhole(path string, text []byte, mode os.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := file.Chmod(mode); err != nil {
		return err
	}
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// setAside keeps a file that cannot be used, for whoever wants to know why, out of the way of a new one.
func setAside(path string, why error) {
	aside := fmt.Sprintf("%s.unusable-%d", path, time.Now().Unix())
	warn("%s cannot be used and is kept as %s: %v", path, aside, why)
	if err := os.Rename(path, aside); err != nil && !os.IsNotExist(err) {
		warn("%v", err)
	}
}

// ready is what a client of the cluster has to know; it is the text of the ready file.
type ready struct {
	PID                 int       `json:"pid"`
	Version             string    `json:"version"`
	Since               time.Time `json:"since"`
	APIServer           string    `json:"apiserver"`
	Registry            string    `json:"registry"`
	Kubeconfig          string    `json:"kubeconfig"`
	BootstrapKubeconfig string    `json:"bootstrapKubeconfig"`
	CA                  string    `json:"ca"`
	Ports               ports     `json:"ports"`
}

// announce writes the ready file and hands the same text to whoever waits on the descriptor.
func announce(directory *dataDir, ports ports, descriptor int) error {
	text, err := json.MarshalIndent(ready{
		PID:                 os.Getpid(),
		Version:             kubernetesVersion(),
		Since:               time.Now().UTC(),
		APIServer:           ports.url(ports.APIServer),
		Registry:            ports.registryAddress(),
		Kubeconfig:          directory.path(adminKubeconfig),
		BootstrapKubeconfig: directory.path(bootstrapKubeconfig),
		CA:                  directory.pki("ca.crt"),
		Ports:               ports,
	}, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := writeWhole(directory.path("ready"), text, 0o600); err != nil {
		return err
	}
	if descriptor < 0 {
		return nil
	}
	waiting := os.NewFile(uintptr(descriptor), "ready-fd")
	defer waiting.Close()
	if _, err := waiting.Write(text); err != nil {
		warn("nobody waits for readiness any more: %v", err)
	}
	return nil
}

func warn(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "devcluster: "+format+"\n", arguments...)
}
