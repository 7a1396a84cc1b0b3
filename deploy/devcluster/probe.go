package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// probeInterval is how often a part that has no other way to say that it serves is asked.
const probeInterval = 50 * time.Millisecond

type probe struct{ client *http.Client }

func newProbe(with credentials) (*probe, error) {
	config, err := clientcmd.BuildConfigFromFlags("", with.kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	client.Timeout = 5 * time.Second
	return &probe{client}, nil
}

// until returns nil once the URL answers 200, or why it did not before the context ended.
func (p *probe) until(ctx context.Context, url string) error {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		last := p.once(ctx, url)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

func (p *probe) once(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 300))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %s: %s", url, response.Status, body)
}
