package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
)

// loopback is the only address that anything here listens on.
const loopback = "127.0.0.1"

// ports are TCP ports on loopback. They are remembered, so that kubeconfigs and image names stay valid
// over restarts for as long as nothing else took a port meanwhile.
type ports struct {
	APIServer         int `json:"apiserver"`
	Etcd              int `json:"etcd"`
	ControllerManager int `json:"controllerManager"`
	Scheduler         int `json:"scheduler"`
	Registry          int `json:"registry"`
}

func (p ports) url(port int) string { return "https://" + address(port) }

func (p ports) registryAddress() string { return address(p.Registry) }

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// choosePorts takes the remembered port of each part, else its well-known one, else any free one.
func choosePorts(directory *dataDir, wellKnown bool) (ports, error) {
	path := directory.path("ports.json")
	var remembered ports
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &remembered); err != nil {
			setAside(path, err)
			remembered = ports{}
		}
	} else if !os.IsNotExist(err) {
		return ports{}, err
	}
	preferred := ports{}
	if wellKnown {
		preferred = ports{APIServer: 6443, Etcd: 2379, ControllerManager: 10257, Scheduler: 10259, Registry: 5000}
	}
	chosen := ports{}
	for _, part := range []struct {
		name                  string
		into                  *int
		remembered, wellKnown int
	}{
		{"apiserver", &chosen.APIServer, remembered.APIServer, preferred.APIServer},
		{"etcd", &chosen.Etcd, remembered.Etcd, preferred.Etcd},
		{"controller manager", &chosen.ControllerManager, remembered.ControllerManager, preferred.ControllerManager},
		{"scheduler", &chosen.Scheduler, remembered.Scheduler, preferred.Scheduler},
		{"registry", &chosen.Registry, remembered.Registry, preferred.Registry},
	} {
		listener, err := firstFree(part.remembered, part.wellKnown)
		if err != nil {
			return ports{}, fmt.Errorf("no free port for the %s: %w", part.name, err)
		}
		// Held until all are chosen, so that no two parts get the same one.
		defer listener.Close()
		*part.into = listener.Addr().(*net.TCPAddr).Port
		if part.remembered != 0 && *part.into != part.remembered {
			warn("port %d of the %s is taken; it moves to %d", part.remembered, part.name, *part.into)
		}
	}
	text, err := json.Marshal(chosen)
	if err != nil {
		return ports{}, err
	}
	return chosen, writeWhole(path, append(text, '\n'), 0o600)
}

// firstFree listens on the first of the candidates that is free, else on a port of the system's choice.
func firstFree(candidates ...int) (net.Listener, error) {
	for _, port := range candidates {
		if port != 0 {
			if listener, err := net.Listen("tcp", address(port)); err == nil {
				return listener, nil
			}
		}
	}
	return net.Listen("tcp", address(0))
}
