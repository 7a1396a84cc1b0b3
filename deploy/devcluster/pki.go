package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	// renewBefore is how near its end a certificate is replaced; certificates are looked at when the
	// cluster starts, so this is also how long it can safely run in one go.
	renewBefore = 90 * 24 * time.Hour
)

type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// leaf is what a certificate is wanted for; one that says anything else is replaced.
type leaf struct {
	name          string
	commonName    string
	organizations []string
	dnsNames      []string
	addresses     []net.IP
	usage         x509.ExtKeyUsage
}

// ensureAuthority returns the CA of that name: the one on disk, or a new one.
func ensureAuthority(directory *dataDir, name, commonName string) (*authority, error) {
	certificatePath, keyPath := directory.pki(name+".crt"), directory.pki(name+".key")
	certificate, key, err := loadPair(certificatePath, keyPath)
	if err == nil && !certificate.IsCA {
		err = errors.New("not a CA's certificate")
	}
	if err == nil {
		err = expiring(certificate)
	}
	if err == nil {
		return &authority{certificate, key}, nil
	}
	if !os.IsNotExist(err) {
		setAside(certificatePath, err)
		setAside(keyPath, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: commonName}, authorityLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	template.DNSNames = []string{commonName}
	newKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificate, err = writePair(certificatePath, keyPath, template, template, newKey, newKey)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, newKey}, nil
}

// ensure leaves a pair NAME.crt, NAME.key on disk that says what `wanted` says, is signed by this CA and
// will not expire soon.
func (a *authority) ensure(directory *dataDir, wanted leaf) error {
	certificatePath, keyPath := directory.pki(wanted.name+".crt"), directory.pki(wanted.name+".key")
	certificate, _, err := loadPair(certificatePath, keyPath)
	if err == nil {
		err = a.unfit(certificate, wanted)
	}
	if err == nil {
		return nil
	}
	if !os.IsNotExist(err) {
		warn("a new certificate %s: the old one %v", wanted.name, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: wanted.commonName, Organization: wanted.organizations}, leafLifetime)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{wanted.usage}
	template.DNSNames, template.IPAddresses = wanted.dnsNames, wanted.addresses
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, err = writePair(certificatePath, keyPath, template, a.certificate, key, a.key)
	return err
}

// unfit says why a certificate on disk is not the wanted one, or nil.
func (a *authority) unfit(certificate *x509.Certificate, wanted leaf) error {
	if err := certificate.CheckSignatureFrom(a.certificate); err != nil {
		return fmt.Errorf("is not of this CA: %w", err)
	}
	if err := expiring(certificate); err != nil {
		return err
	}
	if certificate.Subject.CommonName != wanted.commonName ||
		!slices.Equal(certificate.Subject.Organization, wanted.organizations) ||
		!slices.Equal(certificate.ExtKeyUsage, []x509.ExtKeyUsage{wanted.usage}) {
		return errors.New("has another subject or usage")
	}
	if !slices.Equal(certificate.DNSNames, wanted.dnsNames) ||
		!slices.EqualFunc(certificate.IPAddresses, wanted.addresses, net.IP.Equal) {
		return errors.New("has other names")
	}
	return nil
}

// ensureServiceAccountKey leaves the key pair that service account tokens are signed and checked with.
func ensureServiceAccountKey(directory *dataDir) error {
	keyPath, publicPath := directory.pki("service-account.key"), directory.pki("service-account.pub")
	key, err := loadKey(keyPath)
	if err != nil {
		if !os.IsNotExist(err) {
			setAside(keyPath, err)
		}
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		if err := writeKey(keyPath, key); err != nil {
			return err
		}
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	if present, err := os.ReadFile(publicPath); err == nil && bytes.Equal(present, text) {
		return nil
	}
	return writeWhole(publicPath, text, 0o600)
}

func newTemplate(subject pkix.Name, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-5 * time.Minute),
		NotAfter:     now.Add(lifetime),
	}, nil
}

// writePair writes the key first: killed in between, the pair does not match and is made again.
func writePair(
	certificatePath, keyPath string, template, parent *x509.Certificate, key, signer crypto.Signer,
) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	if err := writeKey(keyPath, key); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writeWhole(certificatePath, text, 0o600); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeWhole(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func loadPair(certificatePath, keyPath string) (*x509.Certificate, crypto.Signer, error) {
	for _, path := range []string{certificatePath, keyPath} {
		if _, err := os.Stat(path); err != nil {
			return nil, nil, err
		}
	}
	pair, err := tls.LoadX509KeyPair(certificatePath, keyPath)
	if err != nil {
		return nil, nil, err
	}
	return pair.Leaf, pair.PrivateKey.(crypto.Signer), nil
}

func loadKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func expiring(certificate *x509.Certificate) error {
	if time.Until(certificate.NotAfter) < renewBefore {
		return fmt.Errorf("expires on %s", certificate.NotAfter.Format(time.DateOnly))
	}
	return nil
}
