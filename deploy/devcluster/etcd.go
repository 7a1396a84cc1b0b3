package main

import (
	"context"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd runs a store of one member. Clients need a certificate of the store's own CA: on a shared
// machine, whoever can talk to etcd on loopback otherwise owns the cluster.
func startEtcd(ctx context.Context, directory *dataDir, ports ports, fsync bool) (*embed.Etcd, error) {
	log, err := directory.log("etcd")
	if err != nil {
		return nil, err
	}
	if err := log.Close(); err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Dir = directory.path("etcd")
	config.LogOutputs = []string{log.Name()}
	client := url.URL{Scheme: "https", Host: address(ports.Etcd)}
	config.ListenClientUrls = []url.URL{client}
	config.AdvertiseClientUrls = []url.URL{client}
	config.ClientTLSInfo = transport.TLSInfo{
		CertFile:       directory.pki("etcd-server.crt"),
		KeyFile:        directory.pki("etcd-server.key"),
		TrustedCAFile:  directory.pki("etcd-ca.crt"),
		ClientCertAuth: true,
	}
	// A cluster of one has no peers to listen for; the peer URL stays as the member's name only.
	config.ListenPeerUrls = nil
	config.EnableGRPCGateway = false
	config.UnsafeNoFsync = !fsync
	store, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("etcd on %s: %w", config.Dir, err)
	}
	select {
	case <-store.Server.ReadyNotify():
		return store, nil
	case failure := <-store.Err():
		store.Close()
		return nil, fmt.Errorf("etcd: %w", failure)
	case <-ctx.Done():
		store.Close()
		return nil, context.Cause(ctx)
	}
}
