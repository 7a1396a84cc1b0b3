package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// startApprover decides the requests for kubelet serving certificates, which Kubernetes leaves to the
// cluster's owner: only the owner knows which addresses a node may claim. Here they are this machine's.
func startApprover(ctx context.Context, with credentials) error {
	client, err := newClient(with)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = "spec.signerName=" + certificatesv1.KubeletServingSignerName
		}))
	informer := factory.Certificates().V1().CertificateSigningRequests()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { queue.Add(object.(*certificatesv1.CertificateSigningRequest).Name) },
		UpdateFunc: func(_, object any) { queue.Add(object.(*certificatesv1.CertificateSigningRequest).Name) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go func() {
		<-ctx.Done()
		queue.ShutDown()
	}()
	go func() {
		for {
			name, shutdown := queue.Get()
			if shutdown {
				return
			}
			request, err := informer.Lister().Get(name)
			if err == nil {
				err = decide(ctx, client, request.DeepCopy())
			}
			switch {
			case err == nil, apierrors.IsNotFound(err):
				queue.Forget(name)
			default:
				warn("certificate request %s: %v", name, err)
				queue.AddRateLimited(name)
			}
			queue.Done(name)
		}
	}()
	return nil
}

// decide approves or denies a request that nobody has decided yet.
func decide(ctx context.Context, client kubernetes.Interface, request *certificatesv1.CertificateSigningRequest) error {
	if len(request.Status.Conditions) > 0 {
		return nil
	}
	own, err := machineAddresses()
	if err != nil {
		return err
	}
	condition := certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "NodeServingCertificate", Message: "requested by the node itself, for itself",
	}
	if objection := servingObjection(&request.Spec, own); objection != nil {
		condition.Type, condition.Reason = certificatesv1.CertificateDenied, "NotTheNodesOwn"
		condition.Message = objection.Error()
	}
	condition.LastUpdateTime = metav1.Now()
	request.Status.Conditions = append(request.Status.Conditions, condition)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = client.CertificatesV1().CertificateSigningRequests().UpdateApproval(
		ctx, request.Name, request, metav1.UpdateOptions{})
	return err
}

// servingObjection says why a request must not be granted, or nil. The rules of the subject and the
// usages are those of the signer kubernetes.io/kubelet-serving; the names may be the node's own and
// localhost, the addresses those of this machine.
func servingObjection(spec *certificatesv1.CertificateSigningRequestSpec, own []net.IP) error {
	node, isNode := strings.CutPrefix(spec.Username, "system:node:")
	if !isNode || node == "" || !slices.Contains(spec.Groups, "system:nodes") {
		return fmt.Errorf("requester %q is not a node", spec.Username)
	}
	block, rest := pem.Decode(spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return errors.New("not one PEM block of type CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := request.CheckSignature(); err != nil {
		return err
	}
	if request.Subject.CommonName != spec.Username {
		return fmt.Errorf("common name %q is not the requester %q", request.Subject.CommonName, spec.Username)
	}
	if !slices.Equal(request.Subject.Organization, []string{"system:nodes"}) {
		return fmt.Errorf("organization %q is not system:nodes", request.Subject.Organization)
	}
	usages := map[certificatesv1.KeyUsage]bool{
		certificatesv1.UsageServerAuth:       true,
		certificatesv1.UsageDigitalSignature: true,
		certificatesv1.UsageKeyEncipherment:  true,
	}
	for _, usage := range spec.Usages {
		if !usages[usage] {
			return fmt.Errorf("usage %q is not a server's", usage)
		}
	}
	if !slices.Contains(spec.Usages, certificatesv1.UsageServerAuth) {
		return fmt.Errorf("usage %q is missing", certificatesv1.UsageServerAuth)
	}
	if len(request.EmailAddresses) > 0 || len(request.URIs) > 0 {
		return errors.New("e-mail addresses and URIs are not a node's names")
	}
	if len(request.DNSNames)+len(request.IPAddresses) == 0 {
		return errors.New("neither a DNS name nor an address")
	}
	for _, name := range request.DNSNames {
		if name != node && name != "localhost" {
			return fmt.Errorf("DNS name %q is not the node's", name)
		}
	}
	for _, address := range request.IPAddresses {
		if !slices.ContainsFunc(own, address.Equal) {
			return fmt.Errorf("address %s is not this machine's", address)
		}
	}
	return nil
}

// machineAddresses are asked anew each time: a laptop's change.
func machineAddresses() ([]net.IP, error) {
	networks, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addresses []net.IP
	for _, network := range networks {
		if network, ok := network.(*net.IPNet); ok {
			addresses = append(addresses, network.IP)
		}
	}
	return addresses, nil
}
