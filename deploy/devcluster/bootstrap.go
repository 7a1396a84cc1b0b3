package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const bootstrapGroup = "system:bootstrappers:kubeadm:default-node-token"

func newClient(with credentials) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", with.kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// ensureObjects leaves in the cluster what kubeadm would: the bootstrap token, and who may do what with
// it. The controller manager approves and signs by these roles; nothing here approves by itself.
func ensureObjects(ctx context.Context, with credentials) error {
	client, err := newClient(with)
	if err != nil {
		return err
	}
	group := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: bootstrapGroup}
	nodes := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:nodes"}
	apiserver := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: kubeletClientUser}
	const csrs = "system:certificates.k8s.io:certificatesigningrequests:"
	for _, binding := range []struct {
		name, role string
		subject    rbacv1.Subject
	}{
		{"devcluster:node-bootstrap", "system:node-bootstrapper", group},
		{"devcluster:node-autoapprove-bootstrap", csrs + "nodeclient", group},
		{"devcluster:node-autoapprove-rotation", csrs + "selfnodeclient", nodes},
		{"devcluster:kubelet-api-admin", "system:kubelet-api-admin", apiserver},
	} {
		_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: binding.name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: binding.role},
			Subjects:   []rbacv1.Subject{binding.subject},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cluster role binding %s: %w", binding.name, err)
		}
	}
	_, err = client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + with.token.id},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id":                       with.token.id,
			"token-secret":                   with.token.secret,
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              bootstrapGroup,
		},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("bootstrap token: %w", err)
	}
	return nil
}

// defaultServiceAccount waits for the account that every pod without another one runs as: before it
// exists, creating a pod fails.
func defaultServiceAccount(ctx context.Context, with credentials) error {
	client, err := newClient(with)
	if err != nil {
		return err
	}
	accounts := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	for ctx.Err() == nil {
		changes, err := accounts.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=default"})
		if err != nil {
			return fmt.Errorf("default service account: %w", err)
		}
		// Without a resource version, a watch begins with what there is already.
		_, found := <-changes.ResultChan()
		changes.Stop()
		if found {
			return nil
		}
	}
	return context.Cause(ctx)
}
