package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"regexp"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	adminKubeconfig     = "admin.kubeconfig"
	bootstrapKubeconfig = "bootstrap.kubeconfig"
	// kubeletClientUser is who the API server is when it calls a node.
	kubeletClientUser = "kube-apiserver-kubelet-client"
)

// credentials are what this program itself uses and what it hands out to the API server.
type credentials struct {
	kubeconfig string
	token      bootstrapToken
}

// bootstrapToken lets a new node ask for its first certificate, and nothing else.
type bootstrapToken struct{ id, secret string }

func (t bootstrapToken) String() string { return t.id + "." + t.secret }

// ensureCredentials leaves every key, certificate and kubeconfig on disk, made anew only where one is
// missing, unusable, near its end, or says something else than it should.
func ensureCredentials(directory *dataDir, ports ports) (credentials, error) {
	cluster, err := ensureAuthority(directory, "ca", "kubernetes")
	if err != nil {
		return credentials{}, err
	}
	frontProxy, err := ensureAuthority(directory, "front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return credentials{}, err
	}
	store, err := ensureAuthority(directory, "etcd-ca", "etcd-ca")
	if err != nil {
		return credentials{}, err
	}
	if err := ensureServiceAccountKey(directory); err != nil {
		return credentials{}, err
	}
	localhost := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, wanted := range []struct {
		by *authority
		leaf
	}{
		{cluster, leaf{
			name: "apiserver", commonName: "kube-apiserver", usage: x509.ExtKeyUsageServerAuth,
			dnsNames: []string{
				"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc.cluster.local",
			},
			// The second is the service `kubernetes`: the first address of the range.
			addresses: append(localhost, net.IPv4(10, 96, 0, 1)),
		}},
		{cluster, leaf{
			name: "controller-manager", commonName: "kube-controller-manager",
			addresses: localhost, usage: x509.ExtKeyUsageServerAuth,
		}},
		{cluster, leaf{
			name: "scheduler", commonName: "kube-scheduler",
			addresses: localhost, usage: x509.ExtKeyUsageServerAuth,
		}},
		{cluster, leaf{
			name: "apiserver-kubelet-client", commonName: kubeletClientUser, usage: x509.ExtKeyUsageClientAuth,
		}},
		{cluster, leaf{
			name: "admin-client", commonName: "kubernetes-admin",
			organizations: []string{"system:masters"}, usage: x509.ExtKeyUsageClientAuth,
		}},
		{cluster, leaf{
			name: "controller-manager-client", commonName: "system:kube-controller-manager",
			usage: x509.ExtKeyUsageClientAuth,
		}},
		{cluster, leaf{
			name: "scheduler-client", commonName: "system:kube-scheduler", usage: x509.ExtKeyUsageClientAuth,
		}},
		{frontProxy, leaf{
			name: "front-proxy-client", commonName: "front-proxy-client", usage: x509.ExtKeyUsageClientAuth,
		}},
		{store, leaf{
			name: "etcd-server", commonName: "etcd", dnsNames: []string{"localhost"},
			addresses: localhost, usage: x509.ExtKeyUsageServerAuth,
		}},
		{store, leaf{
			name: "apiserver-etcd-client", commonName: "kube-apiserver", usage: x509.ExtKeyUsageClientAuth,
		}},
	} {
		if err := wanted.by.ensure(directory, wanted.leaf); err != nil {
			return credentials{}, err
		}
	}
	token, err := ensureBootstrapToken(directory)
	if err != nil {
		return credentials{}, err
	}
	for path, user := range map[string]*clientcmdapi.AuthInfo{
		directory.path(adminKubeconfig):                clientUser(directory, "admin-client"),
		directory.pki("controller-manager.kubeconfig"): clientUser(directory, "controller-manager-client"),
		directory.pki("scheduler.kubeconfig"):          clientUser(directory, "scheduler-client"),
		directory.path(bootstrapKubeconfig):            {Token: token.String()},
	} {
		if err := writeKubeconfig(path, ports.url(ports.APIServer), cluster, user); err != nil {
			return credentials{}, err
		}
	}
	return credentials{kubeconfig: directory.path(adminKubeconfig), token: token}, nil
}

func clientUser(directory *dataDir, name string) *clientcmdapi.AuthInfo {
	return &clientcmdapi.AuthInfo{
		ClientCertificate: directory.pki(name + ".crt"),
		ClientKey:         directory.pki(name + ".key"),
	}
}

// writeKubeconfig embeds everything, so that the one file can be copied and used anywhere.
func writeKubeconfig(path, server string, ca *authority, user *clientcmdapi.AuthInfo) error {
	const name = "vkubelet-dev"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   server,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw}),
	}
	config.AuthInfos[name] = user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return err
	}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	return writeWhole(path, text, 0o600)
}

var tokenFormat = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

func ensureBootstrapToken(directory *dataDir) (bootstrapToken, error) {
	path := directory.pki("bootstrap-token")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return bootstrapToken{}, err
	}
	if parts := tokenFormat.FindStringSubmatch(strings.TrimSpace(string(text))); parts != nil {
		return bootstrapToken{parts[1], parts[2]}, nil
	}
	token := bootstrapToken{}
	if token.id, err = randomText(6); err != nil {
		return token, err
	}
	if token.secret, err = randomText(16); err != nil {
		return token, err
	}
	return token, writeWhole(path, []byte(token.String()+"\n"), 0o600)
}

func randomText(length int) (string, error) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	text := make([]byte, length)
	for index := range text {
		choice, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", err
		}
		text[index] = letters[choice.Int64()]
	}
	return string(text), nil
}
