package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the only driver needed
	"github.com/sirupsen/logrus"
)

// registry is the distribution project's registry over plain HTTP, which clients allow on loopback.
type registry struct {
	app    *handlers.App
	server *http.Server
	log    *os.File
}

func startRegistry(directory *dataDir, ports ports, failed context.CancelCauseFunc) (*registry, error) {
	log, err := directory.log("registry")
	if err != nil {
		return nil, err
	}
	// The registry logs through logrus' standard logger, which nothing else in this process uses.
	logrus.SetOutput(log)
	logrus.SetLevel(logrus.WarnLevel)
	app, err := newRegistryApp(directory.path("registry"))
	if err != nil {
		log.Close()
		return nil, err
	}
	listener, err := net.Listen("tcp", ports.registryAddress())
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("registry: %w", err)
	}
	server := &http.Server{Handler: app, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("registry: %w", err))
		}
	}()
	return &registry{app: app, server: server, log: log}, nil
}

// newRegistryApp turns the panic that handlers.NewApp reports a bad set-up with into an error.
func newRegistryApp(root string) (app *handlers.App, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("registry: %v", problem)
		}
	}()
	return handlers.NewApp(context.Background(), &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": {"rootdirectory": root},
			"delete":     {"enabled": true},
		},
		Catalog: configuration.Catalog{MaxEntries: 1000},
	}), nil
}

func (r *registry) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		r.server.Close()
	}
	if err := r.app.Shutdown(); err != nil {
		warn("registry: %v", err)
	}
	r.log.Close()
}
