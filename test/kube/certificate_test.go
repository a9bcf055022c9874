package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// certManaged is the value of the chart with which others make the certificate of the webhook.
const certManaged = "certManager.enabled=true"

// definitionsOfCertManager are the kinds that the chart makes for it, without their schema.
const definitionsOfCertManager = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: issuers.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {plural: issuers, singular: issuer, kind: Issuer}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {plural: certificates, singular: certificate, kind: Certificate}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// certify does what cert-manager does: it writes a new certificate, by a new authority, into the
// Secret that the chart names, and the authority into both configurations. The old one stays there
// until trust is called. It returns the number of the certificate.
func (s *shop) certify(t testing.TB) (serial *big.Int, trust func()) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host := "colophon-admission." + helmNamespace + ".svc"
	serial = big.NewInt(time.Now().UnixNano())
	template := &x509.Certificate{Subject: pkix.Name{CommonName: host}, SerialNumber: serial, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	old, err := base64.StdEncoding.DecodeString(s.Kubectl(t, "get", "validatingwebhookconfiguration", "colophon-admission", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}"))
	if err != nil {
		t.Fatal(err)
	}
	inject := func(bundle []byte) {
		t.Helper()
		for _, kind := range []string{"validatingwebhookconfiguration", "mutatingwebhookconfiguration"} {
			s.Kubectl(t, "patch", kind, "colophon-admission", "--type=json", "-p", fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, base64.StdEncoding.EncodeToString(bundle)))
		}
	}
	inject(append(old, chain...))
	s.Apply(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: colophon-admission-tls, namespace: %s}\ndata: {tls.crt: %s, tls.key: %s}\n", helmNamespace,
		base64.StdEncoding.EncodeToString(chain), base64.StdEncoding.EncodeToString(secret)))
	return serial, func() { inject(chain) }
}

// TestCertificateOfOthers: a certificate that cert-manager makes and replaces is shown as soon as it
// is in the pods, and no request is lost meanwhile. The test is cert-manager.
func TestCertificateOfOthers(t *testing.T) {
	s := open(t, certManaged)
	l := s.load(t, 2)
	l.calm(t)
	serial, trust := s.certify(t)
	shown := func(address string) bool {
		conn, err := tls.Dial("tcp", address+":8443", &tls.Config{InsecureSkipVerify: true}) // to see which one it is
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(serial) == 0
	}
	for _, address := range s.replicas(t) {
		s.Eventually(t, "the new certificate is shown", func() bool { return shown(address) })
	}
	trust() // the new one alone
	time.Sleep(3 * time.Second)
	l.end(t)
}
