package admission

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/colophon-build/colophon/internal/keypair"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

// installed is the name that the chart gives to what admission shares with the API server: both
// webhook configurations and the Service. Its Secret has "-tls" behind it.
const installed = "colophon-admission"

const (
	leafLife    = 90 * 24 * time.Hour
	authority   = 10 * 365 * 24 * time.Hour
	lookEvery   = time.Minute // at the Secret and the webhook configurations
	filesEvery  = 10 * time.Second
	clockSkewed = time.Hour // certificates begin that much earlier
)

// certificate is what the webhooks show to the API server.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
	log     *slog.Logger
}

func (c *certificate) ready() bool { return c.current.Load() != nil }

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if pair := c.current.Load(); pair != nil {
			return pair, nil
		}
		return nil, errors.New("there is no certificate yet")
	}}
}

// fromFiles reads the certificate of others, such as cert-manager, again and again until ctx ends.
func (c *certificate) fromFiles(ctx context.Context, certificate, key string) {
	c.every(ctx, filesEvery, "read the certificate", func() error {
		pair, err := keypair.Read(certificate, key)
		if err == nil {
			c.current.Store(pair)
		}
		return err
	})
}

// fromSecret makes the certificate, shares it with the other replicas in a Secret, and tells the
// API server whom to trust, until ctx ends.
func (c *certificate) fromSecret(ctx context.Context, api *kubeapi.Client, namespace string) {
	c.every(ctx, lookEvery, "keep the certificate", func() error {
		pair, bundle, err := shared(ctx, api, namespace, time.Now())
		if err != nil {
			return err
		}
		// First the API server trusts the authority, then the webhook shows its certificate.
		for _, kind := range []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"} {
			if err := trustIn(ctx, api, kind, bundle); err != nil {
				return err
			}
		}
		c.current.Store(pair)
		return nil
	})
}

// every calls do at once and again after each wait; sooner after a failure.
func (c *certificate) every(ctx context.Context, wait time.Duration, what string, do func() error) {
	for ctx.Err() == nil {
		next := wait
		if err := do(); err != nil {
			c.log.Error("cannot "+what, "error", err)
			next = min(wait, 2*time.Second)
		}
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

// keptSecret is the Secret that the replicas share.
type keptSecret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]any    `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Data       map[string][]byte `json:"data,omitempty"`
}

// Members of the Secret.
const (
	memberCA    = "ca.crt"
	memberCAKey = "ca.key"
	memberCert  = "tls.crt"
	memberKey   = "tls.key"
)

// shared returns the certificate of all replicas and the authority that made it. It makes a new one
// if there is none, or if two thirds of its time are over. Of replicas that do so at once, the API
// server takes one.
func shared(ctx context.Context, api *kubeapi.Client, namespace string, now time.Time) (*tls.Certificate, []byte, error) {
	path := "/api/v1/namespaces/" + namespace + "/secrets/" + installed + "-tls"
	for range 5 {
		var s keptSecret
		if err := api.Get(ctx, path, &s); err != nil {
			return nil, nil, err
		}
		host := installed + "." + namespace + ".svc"
		if pair, ok := usable(s.Data, host, now); ok {
			return pair, s.Data[memberCA], nil
		}
		made, err := issue(s.Data, host, now)
		if err != nil {
			return nil, nil, err
		}
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		maps.Copy(s.Data, made)
		s.APIVersion, s.Kind = "v1", "Secret"
		if err := api.Update(ctx, path, s); err != nil && !errors.Is(err, kubeapi.ErrConflict) {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("the Secret %s-tls changes all the time", installed)
}

// usable returns the certificate of the Secret if it is still good for a third of its time.
func usable(data map[string][]byte, host string, now time.Time) (*tls.Certificate, bool) {
	pair, err := tls.X509KeyPair(data[memberCert], data[memberKey])
	if err != nil {
		return nil, false
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data[memberCA]) {
		return nil, false
	}
	later := now.Add(leafLife / 3)
	for _, at := range []time.Time{now, later} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: at}); err != nil {
			return nil, false
		}
	}
	return &pair, true
}

// issue makes a certificate, and an authority if the one in the Secret ends before the certificate
// would, or has not begun: the clock was wrong then, or is now. The old authorities stay trusted: replicas show their certificates until they have read
// the new one.
func issue(data map[string][]byte, host string, now time.Time) (map[string][]byte, error) {
	ca, caKey, err := parseAuthority(data)
	out := map[string][]byte{}
	if err != nil || now.Before(ca.NotBefore) || now.Add(leafLife).After(ca.NotAfter) {
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: installed + " " + now.UTC().Format(time.DateOnly)}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-clockSkewed), NotAfter: now.Add(authority),
		}
		var raw, keyPEM []byte
		if raw, caKey, keyPEM, err = certify(template, nil, nil); err != nil {
			return nil, err
		}
		if ca, err = x509.ParseCertificate(raw); err != nil {
			return nil, err
		}
		bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
		if old, _ := pem.Decode(data[memberCA]); old != nil {
			bundle = append(bundle, pem.EncodeToMemory(old)...)
		}
		out[memberCA], out[memberCAKey] = bundle, keyPEM
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: now.Add(-clockSkewed), NotAfter: now.Add(leafLife),
	}
	raw, _, keyPEM, err := certify(leaf, ca, caKey)
	if err != nil {
		return nil, err
	}
	out[memberCert], out[memberKey] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), keyPEM
	return out, nil
}

// parseAuthority returns the newest authority of the Secret.
func parseAuthority(data map[string][]byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.X509KeyPair(data[memberCA], data[memberCAKey])
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("the authority's key is of another kind")
	}
	return pair.Leaf, key, nil
}

// certify signs a certificate for a new key; without a parent, with that key.
func certify(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (raw []byte, key *ecdsa.PrivateKey, keyPEM []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, nil, err
	}
	if parent == nil {
		parent, by = template, key
	}
	if raw, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by); err != nil {
		return nil, nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return raw, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// trustIn writes the authority into each webhook of admission's configuration.
func trustIn(ctx context.Context, api *kubeapi.Client, kind string, bundle []byte) error {
	path := "/apis/admissionregistration.k8s.io/v1/" + kind + "/" + installed
	var have struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Webhooks []struct {
			ClientConfig struct {
				CABundle []byte `json:"caBundle"`
			} `json:"clientConfig"`
		} `json:"webhooks"`
	}
	if err := api.Get(ctx, path, &have); err != nil {
		return err
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	patch := []operation{{"test", "/metadata/resourceVersion", have.Metadata.ResourceVersion}}
	for i, w := range have.Webhooks {
		if !bytes.Equal(w.ClientConfig.CABundle, bundle) {
			patch = append(patch, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
		}
	}
	if len(patch) == 1 {
		return nil
	}
	return api.Patch(ctx, path, kubeapi.JSONPatch, patch)
}
