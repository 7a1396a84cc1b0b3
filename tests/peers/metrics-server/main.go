// Command metrics-server is the project's own server of that name, from its module: what `kubectl top` and the
// HorizontalPodAutoscaler ask, and what asks a node's /metrics/resource. It ends with its standard input too, so
// that it does not outlive the tests, however they end.
package main

import (
	"io"
	"os"

	"k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

func main() {
	stop := server.SetupSignalHandler()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an end is an end, for whichever reason
		server.RequestShutdown()
	}()
	os.Exit(cli.Run(app.NewMetricsServerCommand(stop)))
}
