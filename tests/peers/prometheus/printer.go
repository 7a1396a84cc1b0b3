package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// printer is a storage that prints what is committed to it on standard output, a scrape at a time. Its reader's
// pace is the scraper's.
type printer struct {
	broken context.CancelCauseFunc
	one    sync.Mutex
}

// line is a sample as a reader gets it. A value is text, since JSON has no infinities.
type line struct {
	Labels    map[string]string `json:"labels"`
	Value     string            `json:"value"`
	Timestamp int64             `json:"timestamp"` // milliseconds
	Type      string            `json:"type"`
}

func (p *printer) AppenderV2(context.Context) storage.AppenderV2 { return &batch{printer: p} }

// batch is what one scrape brought.
type batch struct {
	printer *printer
	lines   []line
}

func (b *batch) Append(
	_ storage.SeriesRef, series labels.Labels, _, timestamp int64, value float64,
	whole *histogram.Histogram, float *histogram.FloatHistogram, options storage.AOptions,
) (storage.SeriesRef, error) {
	if whole != nil || float != nil {
		return 0, fmt.Errorf("native histogram of %s: not asked for", series)
	}
	b.lines = append(b.lines, line{
		Labels: series.Map(), Value: strconv.FormatFloat(value, 'g', -1, 64), Timestamp: timestamp,
		Type: string(options.Metadata.Type),
	})
	// A reference of 0 makes the scraper name the series in full each time.
	return 0, nil
}

// Commit prints the batch. When nobody reads any more, the whole program ends.
func (b *batch) Commit() error {
	b.printer.one.Lock()
	defer b.printer.one.Unlock()
	output := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(output)
	for _, each := range b.lines {
		if err := encoder.Encode(each); err != nil {
			b.printer.broken(err)
			return err
		}
	}
	if err := output.Flush(); err != nil {
		b.printer.broken(err)
		return err
	}
	return nil
}

func (b *batch) Rollback() error {
	b.lines = nil
	return nil
}
