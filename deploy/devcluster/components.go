package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components are what this binary is when its first argument names one: Kubernetes' own commands.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

// runComponent is the whole life of a child. It ends at once when its supervisor is gone, however that
// ended: a control plane without its store has nothing left to do.
func runComponent(newCommand func() *cobra.Command, arguments []string) int {
	go func() {
		awaitEnd(lifelineFD)
		os.Exit(1)
	}()
	command := newCommand()
	command.SetArgs(arguments)
	return cli.Run(command)
}

// awaitEnd returns when the other end of a pipe that nobody writes to is closed, as by the end of its process.
func awaitEnd(descriptor int) {
	if _, err := io.Copy(io.Discard, os.NewFile(uintptr(descriptor), "lifeline")); err != nil {
		warn("lifeline: %v", err)
	}
}

func kubernetesVersion() string { return version.Get().GitVersion }

const serviceIPs = "10.96.0.0/16"

// apiserverArguments are kubeadm's choices, on loopback. No address of the API server is published as an
// endpoint: Kubernetes takes no loopback address there, and no other address would answer.
func apiserverArguments(directory *dataDir, ports ports) []string {
	return []string{
		"--bind-address=" + loopback,
		"--advertise-address=" + loopback,
		"--endpoint-reconciler-type=none",
		"--secure-port=" + number(ports.APIServer),
		"--tls-cert-file=" + directory.pki("apiserver.crt"),
		"--tls-private-key-file=" + directory.pki("apiserver.key"),
		"--client-ca-file=" + directory.pki("ca.crt"),
		"--etcd-servers=" + ports.url(ports.Etcd),
		"--etcd-cafile=" + directory.pki("etcd-ca.crt"),
		"--etcd-certfile=" + directory.pki("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + directory.pki("apiserver-etcd-client.key"),
		"--kubelet-certificate-authority=" + directory.pki("ca.crt"),
		"--kubelet-client-certificate=" + directory.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + directory.pki("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--requestheader-client-ca-file=" + directory.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + directory.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + directory.pki("front-proxy-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + directory.pki("service-account.pub"),
		"--service-account-signing-key-file=" + directory.pki("service-account.key"),
		"--service-cluster-ip-range=" + serviceIPs,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--allow-privileged=true",
		"--profiling=false",
		// One machine's clients: it is its CPU that should limit them, not a guess made for large clusters.
		"--max-requests-inflight=1000",
		"--max-mutating-requests-inflight=500",
	}
}

// controllerManagerArguments raise the client's rate limits and the workers of what people wait for: with
// the defaults a deployment of a few hundred pods takes a minute that no node is the cause of.
func controllerManagerArguments(directory *dataDir, ports ports) []string {
	kubeconfig := directory.pki("controller-manager.kubeconfig")
	return append(secondary(kubeconfig, ports.ControllerManager, directory, "controller-manager"),
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
		"--use-service-account-credentials=true",
		"--root-ca-file="+directory.pki("ca.crt"),
		"--service-account-private-key-file="+directory.pki("service-account.key"),
		"--cluster-signing-cert-file="+directory.pki("ca.crt"),
		"--cluster-signing-key-file="+directory.pki("ca.key"),
		"--service-cluster-ip-range="+serviceIPs,
		// It makes this directory when it is missing, by default in /usr.
		"--flex-volume-plugin-dir="+directory.path("flexvolume"),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--concurrent-deployment-syncs=20",
		"--concurrent-replicaset-syncs=20",
		"--concurrent-statefulset-syncs=20",
		"--concurrent-job-syncs=20",
		"--concurrent-namespace-syncs=20",
	)
}

func schedulerArguments(directory *dataDir, ports ports) []string {
	kubeconfig := directory.pki("scheduler.kubeconfig")
	return append(secondary(kubeconfig, ports.Scheduler, directory, "scheduler"),
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	)
}

// secondary is what the controller manager and the scheduler have in common. There is one of each, so
// that a leader election would only delay their start.
func secondary(kubeconfig string, port int, directory *dataDir, certificate string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--client-ca-file=" + directory.pki("ca.crt"),
		"--bind-address=" + loopback,
		"--secure-port=" + number(port),
		"--tls-cert-file=" + directory.pki(certificate+".crt"),
		"--tls-private-key-file=" + directory.pki(certificate+".key"),
		"--leader-elect=false",
		"--profiling=false",
	}
}
