// The suite is Kubernetes' own e2e tests, as far as they test nodes, and the command that runs them in parallel.
//
// It exists because Kubernetes publishes them as packages, not as a program that one could fetch. With `ginkgo` as
// its first argument it is Ginkgo's command, which starts the suite's processes and shares the specs out among them.
// No spec is changed here; what they need of a cluster is set up outside. It must not know which specs pass.
package main

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/ginkgo/command"
	"github.com/onsi/ginkgo/v2/ginkgo/run"
	"github.com/onsi/ginkgo/v2/types"
	conformance "k8s.io/kubernetes/test/conformance/testdata"
	"k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/e2e/common"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	_ "k8s.io/kubernetes/test/e2e/node"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	"k8s.io/kubernetes/test/fixtures"
	_ "k8s.io/kubernetes/test/utils/ktesting/format"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "ginkgo" {
		program := command.Program{Name: "ginkgo", DefaultCommand: run.BuildRunCommand()}
		program.RunAndExit(os.Args[1:])
	}
	testing.Init()
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	limit := flag.Duration("spec-timeout", 0, "what a single spec may take; 0 is for ever")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unknown arguments: %q\n", flag.Args())
		os.Exit(2)
	}
	if *limit > 0 {
		// The specs themselves are made only when the suite runs.
		ginkgo.AddTreeConstructionNodeArgsTransformer(limitSpecs(*limit))
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	testfiles.AddFileSource(fixtures.GetTestFixturesFS())
	testfiles.AddFileSource(conformance.GetConformanceTestdataFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	every := func(string, string) (bool, error) { return true, nil }
	testing.Main(every, []testing.InternalTest{{Name: "TestE2E", F: e2e.RunE2ETests}}, nil, nil)
}

// limitSpecs gives each spec that takes a context a time limit, which ends that context: the suite's own limits are
// for clusters where a minute is nothing, and a spec that waits for what never comes would take many.
func limitSpecs(limit time.Duration) ginkgo.NodeArgsTransformer {
	return func(
		kind types.NodeType, _ ginkgo.Offset, text string, args []any,
	) (string, []any, []error) {
		if kind == types.NodeTypeIt && takesContext(args) {
			args = append(args, ginkgo.SpecTimeout(limit))
		}
		return text, args, nil
	}
}

func takesContext(args []any) bool {
	for _, arg := range args {
		if kind := reflect.TypeOf(arg); kind != nil && kind.Kind() == reflect.Func && kind.NumIn() > 0 {
			return true
		}
	}
	return false
}
