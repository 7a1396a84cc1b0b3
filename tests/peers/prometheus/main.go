// Command prometheus is what of Prometheus finds targets and scrapes them, on its own packages and with its own
// configuration file, in front of a storage that prints each sample as a line of JSON. Rules, queries and the
// time series database stay away: it is the scraping that a node has to please.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // registers kubernetes_sd_configs
	"github.com/prometheus/prometheus/scrape"
)

// discoveryPause is how long changes of targets are collected before they are acted on. Prometheus' own five
// seconds spare large clusters; here somebody waits.
const discoveryPause = 100 * time.Millisecond

func main() {
	file := flag.String("config.file", "prometheus.yml", "Prometheus' configuration; only scrape_configs count")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *file); err != nil {
		fmt.Fprintln(os.Stderr, "prometheus:", err)
		os.Exit(1)
	}
}

// run scrapes until the context is over or a part fails.
func run(ctx context.Context, file string) error {
	logger := promslog.New(&promslog.Config{Writer: os.Stderr})
	settings, err := config.LoadFile(file, false, logger)
	if err != nil {
		return err
	}
	jobs, err := settings.GetScrapeConfigs()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	targets, err := newDiscovery(ctx, logger, jobs)
	if err != nil {
		return err
	}
	scraper, err := scrape.NewManager(
		&scrape.Options{
			DiscoveryReloadInterval: model.Duration(discoveryPause),
			// As Prometheus does when it starts: the appender is told the type of each sample.
			AppendMetadata: true,
		},
		logger, nil, nil, &printer{broken: cancel}, prometheus.DefaultRegisterer)
	if err != nil {
		return err
	}
	if err := scraper.ApplyConfig(settings); err != nil {
		return err
	}
	go func() { cancel(errors.Join(errors.New("the discovery of targets ended"), targets.Run())) }()
	go func() { cancel(errors.Join(errors.New("the scraping ended"), scraper.Run(targets.SyncCh()))) }()
	<-ctx.Done()
	scraper.Stop()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// newDiscovery looks for the targets of each job.
func newDiscovery(ctx context.Context, logger *slog.Logger, jobs []*config.ScrapeConfig) (*discovery.Manager, error) {
	registry := prometheus.DefaultRegisterer
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		return nil, err
	}
	manager := discovery.NewManager(ctx, logger, registry, metrics, discovery.Name("scrape"), discovery.Updatert(discoveryPause))
	if manager == nil {
		return nil, errors.New("the discovery of targets cannot start")
	}
	wanted := make(map[string]discovery.Configs, len(jobs))
	for _, job := range jobs {
		wanted[job.JobName] = job.ServiceDiscoveryConfigs
	}
	return manager, manager.ApplyConfig(wanted)
}
