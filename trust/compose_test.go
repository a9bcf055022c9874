package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// instanceOf returns the keys of a platform.
func instanceOf(t *testing.T, p *prooftest.Platform) trust.Instance {
	tr, err := root.NewTrustedRootFromJSON(p.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	certificates := func(all ...*x509.Certificate) (out []byte) {
		for _, c := range all {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out
	}
	logs := func(all map[string]*root.TransparencyLog) (out []trust.Part) {
		for _, l := range all {
			der, err := x509.MarshalPKIXPublicKey(l.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, trust.Part{URL: l.BaseURL, PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})})
		}
		return out
	}
	tsa := tr.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
	return trust.Instance{
		Authorities: []trust.Part{{URL: "https://ca.example.com", PEM: certificates(tr.FulcioCertificateAuthorities()[0].(*root.FulcioCertificateAuthority).Root)}},
		Stampers:    []trust.Part{{URL: "https://tsa.example.com", PEM: certificates(tsa.Leaf, tsa.Root)}},
		Logs:        logs(tr.RekorLogs()), CTLogs: logs(tr.CTLogs()),
	}
}

func TestFromKeys(t *testing.T) {
	p := prooftest.New(t)
	r, err := trust.FromKeys(instanceOf(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := trust.Vouches(r.Material, "https://any.example.com"); err != nil {
		t.Errorf("got %v, want a root that vouches for every issuer", err)
	}
	plain := p.PlainRoot("https://accounts.example.com")
	for id := range plain.Material.RekorLogs() {
		if r.Material.RekorLogs()[id] == nil {
			t.Errorf("got logs %v, want %s", r.Material.RekorLogs(), id)
		}
	}
	if len(trust.Authorities(r.Material)) != 1 || len(r.Material.TimestampingAuthorities()) != 1 || len(r.Material.CTLogs()) != 1 {
		t.Errorf("got %+v", r.Material)
	}
	again, err := trust.FromKeys(instanceOf(t, p))
	other, err2 := trust.FromKeys(instanceOf(t, prooftest.New(t)))
	if err != nil || err2 != nil || again.Fingerprint != r.Fingerprint || other.Fingerprint == r.Fingerprint {
		t.Errorf("got %v, %v, and fingerprints %s, %s, %s", err, err2, r.Fingerprint, again.Fingerprint, other.Fingerprint)
	}
}

func TestFromKeysRefuses(t *testing.T) {
	good := instanceOf(t, prooftest.New(t))
	other := instanceOf(t, prooftest.New(t))
	for name, c := range map[string]struct {
		bend func(*trust.Instance)
		want string
	}{
		"no certificate":        {func(in *trust.Instance) { in.Authorities[0].PEM = []byte("x") }, "expected 1 to 10 certificates"},
		"too many certificates": {func(in *trust.Instance) { in.Authorities[0].PEM = bytes.Repeat(in.Authorities[0].PEM, 11) }, "expected 1 to 10 certificates"},
		"two roots": {func(in *trust.Instance) {
			in.Authorities[0].PEM = append(in.Authorities[0].PEM, other.Authorities[0].PEM...)
		}, "two root certificates"},
		"a leaf as an authority":   {func(in *trust.Instance) { in.Authorities[0].PEM = in.Stampers[0].PEM }, "is no authority's"},
		"an authority that stamps": {func(in *trust.Instance) { in.Stampers[0].PEM = in.Authorities[0].PEM }, "nothing that signs"},
		"no key":                   {func(in *trust.Instance) { in.Logs[0].PEM = []byte("x") }, "public key in PEM"},
		"a certificate as a key":   {func(in *trust.Instance) { in.CTLogs[0].PEM = in.Authorities[0].PEM }, "public key in PEM"},
	} {
		in := trust.Instance{Authorities: append([]trust.Part(nil), good.Authorities...), Stampers: append([]trust.Part(nil), good.Stampers...), Logs: append([]trust.Part(nil), good.Logs...), CTLogs: append([]trust.Part(nil), good.CTLogs...)}
		c.bend(&in)
		if _, err := trust.FromKeys(in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// TestCompose: each service comes from where the choice says, and vouching from the authorities.
func TestCompose(t *testing.T) {
	const people = "https://accounts.example.com"
	a, b := prooftest.New(t).PlainRoot(people), prooftest.New(t).PlainRoot(people)
	same := func(x, y map[string]*root.TransparencyLog) bool { return fmt.Sprint(x) == fmt.Sprint(y) }
	r := trust.Compose(trust.Choice{Authorities: a, Logs: b, Stampers: b})
	switch {
	case trust.Authorities(r.Material)[0] != trust.Authorities(a.Material)[0], !same(r.Material.CTLogs(), a.Material.CTLogs()):
		t.Error("the authorities are not those of a")
	case !same(r.Material.RekorLogs(), b.Material.RekorLogs()), r.Material.TimestampingAuthorities()[0] != b.Material.TimestampingAuthorities()[0]:
		t.Error("logs and stampers are not those of b")
	case trust.Vouches(r.Material, people) != nil, trust.Vouches(r.Material, "https://any.example.com") == nil:
		t.Error("the issuers are not those of a")
	case len(r.Builders) > 0 || r.Issuer != "" || r.Fingerprint == a.Fingerprint:
		t.Errorf("got %+v", r)
	}
	if none := trust.Compose(trust.Choice{Authorities: a, WithoutSCT: true}); len(none.Material.CTLogs())+len(none.Material.RekorLogs())+len(none.Material.TimestampingAuthorities()) != 0 {
		t.Error("services that nobody chose")
	}
	if wide := a.ForEveryIssuer(); trust.Vouches(wide.Material, "https://any.example.com") != nil || trust.Vouches(a.Material, "https://any.example.com") == nil {
		t.Error("ForEveryIssuer: want a copy that vouches for every issuer, and the root as it was")
	}
}
