// Command csi-driver is Kubernetes' own mock of a storage driver (test/e2e/storage/drivers/csi-test), as a process
// that registers with a node. The mock mounts nothing: a directory of its own stands for a volume, in which it is
// written here which volume that is. What the mock has no directory for, an inline volume, gets one here too. Each
// call is a line of JSON on standard output. It ends with its standard input, so that it does not outlive the tests.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/driver"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

func main() {
	name := flag.String("name", service.Name, "the driver's name")
	endpoint := flag.String("endpoint", "", "the driver's socket")
	register := flag.String("register", "", "the socket by which it registers")
	attach := flag.Bool("attach", false, "whether volumes must be attached first")
	flag.Parse()

	calls := &calls{encoder: json.NewEncoder(os.Stdout)}
	mock := service.New(service.Config{
		DriverName:           *name,
		DisableAttach:        !*attach,
		AttachLimit:          7,
		EnableTopology:       true,
		PermissiveTargetPath: true,
		IO:                   marking{},
	})
	server := driver.NewCSIDriver(&driver.CSIDriverServers{Controller: mock, Identity: mock, Node: node{mock}})
	if err := server.Start(listen(*endpoint), calls.intercept); err != nil {
		log.Fatal(err)
	}

	registrar := grpc.NewServer(grpc.UnaryInterceptor(calls.intercept))
	registration.RegisterRegistrationServer(registrar, plugin{name: *name, endpoint: *endpoint})
	listener := listen(*register)
	go func() {
		if err := registrar.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()

	_, _ = io.Copy(io.Discard, os.Stdin) // an end is an end, for whichever reason
	registrar.Stop()
	server.Stop()
}

// listen makes way first: a driver that was killed leaves its sockets.
func listen(socket string) net.Listener {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		log.Fatal(err)
	}
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// plugin is the registrar that stands beside each driver.
type plugin struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
}

func (p plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              p.name,
		Endpoint:          p.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (plugin) NotifyRegistrationStatus(
	context.Context, *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	return &registration.RegistrationStatusResponse{}, nil
}

// node is the mock's service with a directory for inline volumes.
type node struct{ service.Service }

func (n node) NodePublishVolume(
	ctx context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	if request.VolumeContext["csi.storage.k8s.io/ephemeral"] == "true" {
		return &csi.NodePublishVolumeResponse{}, marking{}.Mkdir(request.TargetPath)
	}
	return n.Service.NodePublishVolume(ctx, request)
}

func (n node) NodeUnpublishVolume(
	ctx context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	// The mock knows only what it has published itself, since it was started.
	_, err := n.Service.NodeUnpublishVolume(ctx, request)
	if _, stated := os.Stat(request.TargetPath); stated == nil {
		err = marking{}.RemoveAll(request.TargetPath)
	}
	return &csi.NodeUnpublishVolumeResponse{}, err
}

// marking is the mock's view of directories: each that it makes says what it is.
type marking struct{ service.OSDirIO }

func (m marking) Mkdir(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, "volume"), []byte("of the driver"), 0o666)
}

// calls are told as lines.
type calls struct {
	lock    sync.Mutex
	encoder *json.Encoder
}

func (c *calls) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	answer, err := handler(ctx, request)
	line := map[string]any{"method": filepath.Base(info.FullMethod), "request": request}
	if err != nil {
		line["error"] = err.Error()
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	_ = c.encoder.Encode(line)
	return answer, err
}
