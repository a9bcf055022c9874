package cluster_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/cluster"
)

const (
	people  = "https://accounts.example.com"
	ada     = people + "/ada"
	scanned = "https://example.com/scan/v1"
)

// stage is an image, who signs it, and what policies see of it.
type stage struct {
	t     *testing.T
	p     *prooftest.Platform
	key   *prooftest.Holder
	store *prooftest.Store
	image v1.Descriptor
	trust []*trust.Root // of the machine
	open  func(string) (oci.Source, error)
	work  *cip.Workload
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, p: prooftest.New(t), store: prooftest.NewStore(t)}
	s.key = s.p.KeyHolder()
	s.key.Unlogged = true
	s.image, _ = s.store.Image("v1")
	s.trust = []*trust.Root{s.p.PlainRoot(people)}
	return s
}

// signed adds a signature of cosign v2 to a store.
func (s *stage) signed(h *prooftest.Holder, prefix string, store *prooftest.Store) {
	payload := []byte(`{"critical":{"identity":{"docker-reference":"127.0.0.1:8080/team/app"},"image":{"docker-manifest-digest":"` + s.image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
	layer := store.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload))
	store.Tagged(s.image, "sig", layer)
	if prefix != "" {
		d, err := store.Resolve(s.t.Context(), oci.CosignSignatures.Of(s.image.Digest))
		if err != nil {
			s.t.Fatal(err)
		}
		store.Tag(prefix+oci.CosignSignatures.Of(s.image.Digest), d)
		store.Tag(oci.CosignSignatures.Of(s.image.Digest), s.image) // no signature
	}
}

func (s *stage) statement(predicateType string, predicate map[string]any) []byte {
	raw, err := attest.NewStatement("app", s.image.Digest.Hex, predicateType, predicate)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// attested adds an attestation of cosign v2.
func (s *stage) attested(h *prooftest.Holder, predicate map[string]any) {
	envelope, annotations := h.Envelope(s.statement(scanned, predicate))
	s.store.Tagged(s.image, "att", s.store.Layer(envelope, attest.EnvelopeMediaType, annotations))
}

// trustRoot returns a TrustRoot with the services of a platform that are named.
func (s *stage) trustRoot(name string, p *prooftest.Platform, services string) string {
	tr, err := root.NewTrustedRootFromJSON(p.TrustedRoot())
	if err != nil {
		s.t.Fatal(err)
	}
	encoded := func(kind string, ders ...[]byte) string {
		var out []byte
		for _, der := range ders {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
		}
		return base64.StdEncoding.EncodeToString(out)
	}
	authority := func(chain string) string {
		return "\n    - subject: {organization: o, commonName: c}\n      uri: " + prooftest.URL + "\n      certChain: " + chain
	}
	has := func(service string) bool { return slices.Contains(strings.Fields(services), service) }
	text := "---\napiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: " + name + "}\nspec:\n  sigstoreKeys:"
	if has("ca") {
		text += "\n    certificateAuthorities:" + authority(encoded("CERTIFICATE", tr.FulcioCertificateAuthorities()[0].(*root.FulcioCertificateAuthority).Root.Raw))
	}
	if has("tsa") {
		tsa := tr.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
		text += "\n    timestampAuthorities:" + authority(encoded("CERTIFICATE", tsa.Leaf.Raw, tsa.Root.Raw))
	}
	for member, logs := range map[string]map[string]*root.TransparencyLog{"tLogs": tr.RekorLogs(), "ctLogs": tr.CTLogs()} {
		if !has(member) {
			continue
		}
		for _, l := range logs {
			der, err := x509.MarshalPKIXPublicKey(l.PublicKey)
			if err != nil {
				s.t.Fatal(err)
			}
			text += "\n    " + member + ":\n    - baseURL: " + prooftest.URL + "\n      hashAlgorithm: sha-256\n      publicKey: " + encoded("PUBLIC KEY", der)
		}
	}
	return text + "\n"
}

// policies returns a policy about every image with authorities and more members of the spec.
func policies(spec, authorities string) string {
	text := "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: demo}\nspec:\n  images: [{glob: '**'}]\n" + spec
	if authorities != "" {
		text += "  authorities:\n" + authorities
	}
	return text
}

func (s *stage) keyAuthority(h *prooftest.Holder, more string) string {
	return "  - key:\n      data: |\n        " + strings.ReplaceAll(strings.TrimSpace(string(h.PublicKey())), "\n", "\n        ") + "\n" + more
}

func keyless(members, more string) string {
	return "  - keyless:\n      identities: [{issuer: '" + people + "', subject: '" + ada + "'}]\n" + members + more
}

const (
	ours   = "      url: " + prooftest.URL + "\n"
	byRef  = "      trustRootRef: ours\n"
	sct    = "      insecureIgnoreSCT: true\n"
	format = "    signatureFormat: bundle\n"
)

// decide asks the documents about the image.
func (s *stage) decide(documents string) *verify.Decision {
	s.t.Helper()
	objects, err := cip.Parse([]byte(documents))
	if err != nil {
		s.t.Fatalf("%v in\n%s", err, documents)
	}
	now := s.p.Now.Add(time.Minute)
	all := cluster.New(objects, cluster.Options{Trust: s.trust, Evaluate: eval.Run, Open: s.open})
	image := policy.Image{Name: "registry.example.com/team/app", Tag: "v1", Digest: s.image.Digest.String()}
	ev := verify.Gather(s.t.Context(), s.store, image.Digest, now, verify.Options{Trust: s.trust}, verify.Ask{Queries: all.Queries(image)})
	return ev.DecideWith(nil, image, verify.With{Others: all.Decide(s.t.Context(), ev, image, s.work, now)})
}

// wants fails unless the documents decide so, for a reason with these words.
func (s *stage) wants(name, documents string, want verify.Outcome, words string) {
	s.t.Helper()
	d := s.decide(documents)
	if d.Outcome != want || !strings.Contains(d.Reason+strings.Join(d.Warnings, " "), words) {
		s.t.Errorf("%s: got %s: %s %q, want %s: %s", name, d.Outcome, d.Reason, d.Warnings, want, words)
	}
}

// evaluator puts colophon-eval into PATH.
func evaluator(t *testing.T) {
	bin, err := filepath.Abs("../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, eval.Program)); err != nil {
		needs.Missing(t, "%v: run make build", err)
	}
	t.Setenv("PATH", bin)
}

// TestKeys: signatures by keys, with a log and without.
func TestKeys(t *testing.T) {
	s := newStage(t)
	s.wants("nothing is signed", policies("", s.keyAuthority(s.key, "")), verify.Rejected, "the image has no signature of the image by this authority")
	s.signed(s.key, "", s.store)
	other := s.p.KeyHolder()
	s.wants("its key", policies("", s.keyAuthority(s.key, "")), verify.Accepted, "")
	s.wants("another key", policies("", s.keyAuthority(other, "")), verify.Rejected, "has no signature")
	s.wants("the second authority", policies("", s.keyAuthority(other, "")+s.keyAuthority(s.key, "")), verify.Accepted, "")
	two := strings.Replace(s.keyAuthority(other, ""), "-----END PUBLIC KEY-----", "-----END PUBLIC KEY-----\n        "+strings.ReplaceAll(strings.TrimSpace(string(s.key.PublicKey())), "\n", "\n        "), 1)
	s.wants("the second key of one authority", policies("", two), verify.Accepted, "")
	s.wants("another hash", policies("", s.keyAuthority(s.key, "      hashAlgorithm: sha512\n")), verify.Rejected, "has no signature")
	s.wants("warn", policies("  mode: warn\n", s.keyAuthority(other, "")), verify.Accepted, "has no signature")
	s.wants("no log entry", policies("", s.keyAuthority(s.key, "    ctlog: {url: '"+prooftest.URL+"'}\n")), verify.Rejected, "has no signature")
	s.wants("no such log", policies("", s.keyAuthority(s.key, "    ctlog: {}\n")), verify.Undecided, "no trust root on this machine has the log https://rekor.sigstore.dev")
	s.wants("bundles of a key", policies("", s.keyAuthority(s.key, format)), verify.Rejected, "only keyless authorities")

	secret := "  - key: {secretRef: {name: signing}}\n"
	s.wants("a secret that nobody has", policies("", secret), verify.Undecided, "the key is in the secret signing")
	document := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: signing}\ndata:\n  cosign.pub: " + base64.StdEncoding.EncodeToString(s.key.PublicKey()) + "\n"
	s.wants("the secret", policies("", secret)+document, verify.Accepted, "")
	s.wants("a secret with two entries", policies("", secret)+document+"  x: e30=\n", verify.Undecided, "expected one entry, found 2")
	s.wants("a key elsewhere", policies("", "  - key: {kms: 'awskms:///alias/x'}\n"), verify.Undecided, "put its public key into data")
	s.wants("undecided beside accepted", policies("", "  - key: {kms: 'awskms:///alias/x'}\n"+s.keyAuthority(s.key, "")), verify.Accepted, "")

	logged := newStage(t)
	logged.key.Unlogged = false
	logged.signed(logged.key, "", logged.store)
	logged.wants("with a log entry", policies("", logged.keyAuthority(logged.key, "    ctlog: {url: '"+prooftest.URL+"'}\n")), verify.Accepted, "")
	named := policies("", logged.keyAuthority(logged.key, "    ctlog: {trustRootRef: ours}\n"))
	logged.wants("in the log of a TrustRoot", named+logged.trustRoot("ours", logged.p, "ca tLogs"), verify.Accepted, "")
	logged.wants("in another's log", named+logged.trustRoot("ours", prooftest.New(t), "ca tLogs"), verify.Rejected, "has no signature")
	logged.wants("a TrustRoot without a log", named+logged.trustRoot("ours", logged.p, "ca"), verify.Undecided, `the TrustRoot "ours" has no log`)
	logged.wants("no TrustRoot", named, verify.Undecided, `there is no TrustRoot "ours"`)
}

// TestManyKeys: the keys of an authority are bounded.
func TestManyKeys(t *testing.T) {
	s := newStage(t)
	s.signed(s.key, "", s.store)
	pem := strings.ReplaceAll(strings.Repeat(string(s.key.PublicKey()), 17), "\n", "\n        ")
	s.wants("17 keys", policies("", "  - key:\n      data: |\n        "+strings.TrimSpace(pem)+"\n"), verify.Undecided, "expected 1 to 16 public keys")
}

// TestNobody: what nobody signed is refused, whatever the policy leaves out.
func TestNobody(t *testing.T) {
	s := newStage(t)
	s.wants("no authorities", policies("", ""), verify.Rejected, "the policy has no authorities")
	s.wants("no policy about the image", strings.Replace(policies("", ""), "'**'", "other.example.com/**", 1), verify.Rejected, "no rule of the policy")
	for _, answer := range []string{"deny", "warn", "allow"} {
		config := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-policy-controller}\ndata: {no-match-policy: " + answer + "}\n"
		want := map[string]verify.Outcome{"deny": verify.Rejected, "warn": verify.Accepted, "allow": verify.Accepted}[answer]
		s.wants("no match: "+answer, strings.Replace(policies("", ""), "'**'", "other.example.com/**", 1)+config, want, map[string]string{"warn": "no rule of the policy"}[answer])
	}
	s.wants("pass", policies("", "  - static: {action: pass}\n"), verify.Accepted, "")
	s.wants("fail", policies("", "  - static: {action: fail, message: retired}\n"), verify.Rejected, "static policy: retired")
	both := policies("", "  - static: {action: pass}\n") + "---\n" + strings.Replace(policies("", "  - static: {action: fail}\n"), "name: demo", "name: second", 1)
	s.wants("all policies must pass", both, verify.Rejected, `rule "second"`)
	s.store.FailListing = errors.New("the registry is asleep")
	s.wants("the registry is asleep", policies("", s.keyAuthority(s.key, "")), verify.Undecided, "asleep")
	s.store.FailListing = nil
	s.signed(s.key, "", s.store)
	s.store.Fail[oci.CosignSignatures.Of(s.image.Digest)] = errors.New("the tag is asleep")
	s.wants("a tag is asleep", policies("", s.keyAuthority(s.key, "")), verify.Undecided, "asleep")
	delete(s.store.Fail, oci.CosignSignatures.Of(s.image.Digest))
	s.store.Tamper(s.image.Digest, []byte("{}"))
	if d := s.decide(policies("", "  - static: {action: pass}\n")); d.Outcome == verify.Accepted {
		t.Error("accepted an image whose bytes are others")
	}
}

// TestKeyless: certificates, whole names and expressions, logs and timestamps.
func TestKeyless(t *testing.T) {
	s := newStage(t)
	id := prooftest.Identity{SAN: ada, Issuer: people}
	s.signed(s.p.Certified(id), "", s.store)
	machine := policies("", keyless(ours, ""))
	s.wants("its name", machine, verify.Accepted, "")
	s.wants("another name", strings.Replace(machine, "/ada", "/eve", 1), verify.Rejected, "there is a signature by "+ada)
	s.wants("a part of the name", strings.Replace(machine, "/ada'", "/ad'", 1), verify.Rejected, "by "+ada)
	s.wants("another issuer", strings.Replace(machine, "issuer: '"+people, "issuer: '"+people+"/x", 1), verify.Rejected, "vouched for by "+people)
	s.wants("an expression that matches a part", strings.Replace(machine, "subject: '"+ada, "subjectRegExp: 'example.com/a", 1), verify.Accepted, "")
	s.wants("an expression for the issuer", strings.Replace(machine, "issuer: '"+people, "issuerRegExp: 'accounts", 1), verify.Accepted, "")
	s.wants("an expression that does not match", strings.Replace(machine, "subject: '"+ada, "subjectRegExp: '^example.com/a", 1), verify.Rejected, "by "+ada)
	s.wants("the default authority", policies("", keyless("", "")), verify.Undecided, "no trust root on this machine has the certificate authority https://fulcio.sigstore.dev")
	s.wants("ca-cert", policies("", keyless("      ca-cert: {secretRef: {name: x}}\n", "")), verify.Rejected, "accepts no image by it")
	s.wants("in its log", policies("", keyless(ours, "    ctlog: {url: '"+prooftest.URL+"/'}\n")), verify.Accepted, "")
	s.wants("in another log", policies("", keyless(ours, "    ctlog: {url: 'https://rekor.example.com'}\n")), verify.Undecided, "has the log https://rekor.example.com")
	s.wants("bundles are demanded", policies("", keyless(ours, format)), verify.Rejected, "signatureFormat is bundle")

	// A TrustRoot counts where it is named, for the issuer that is named there, and nowhere else.
	whole := s.trustRoot("ours", s.p, "ca tLogs ctLogs")
	s.trust = nil
	s.wants("a TrustRoot", policies("", keyless(byRef, ""))+whole, verify.Accepted, "")
	s.wants("a TrustRoot that nobody names", policies("", keyless(ours, ""))+whole, verify.Undecided, "no trust root on this machine")
	s.wants("another's TrustRoot", policies("", keyless(byRef, ""))+s.trustRoot("ours", prooftest.New(t), "ca tLogs ctLogs"), verify.Rejected, "has no signature")
	s.wants("no SCT of its log", policies("", keyless(byRef, ""))+s.trustRoot("ours", s.p.With("ct", prooftest.New(t)), "ca tLogs ctLogs"), verify.Rejected, "has no signature")
	s.wants("insecureIgnoreSCT", policies("", keyless(byRef+sct, ""))+s.trustRoot("ours", s.p.With("ct", prooftest.New(t)), "ca tLogs ctLogs"), verify.Accepted, "")
	s.wants("a TrustRoot without a CT log", policies("", keyless(byRef, ""))+s.trustRoot("ours", s.p, "ca tLogs"), verify.Undecided, "no certificate transparency log")
	s.wants("without, and insecureIgnoreSCT", policies("", keyless(byRef+sct, ""))+s.trustRoot("ours", s.p, "ca tLogs"), verify.Accepted, "")
	s.wants("the log of another TrustRoot", policies("", keyless(byRef, "    ctlog: {trustRootRef: log}\n"))+s.trustRoot("ours", s.p, "ca ctLogs")+s.trustRoot("log", s.p, "ca tLogs"), verify.Accepted, "")
}

// TestRemoteTrustRoot: a TUF repository counts if somebody on the machine trusts it, and for the
// target that was read from it.
func TestRemoteTrustRoot(t *testing.T) {
	s := newStage(t)
	s.signed(s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people}), "", s.store)
	remote := func(more string) string {
		return policies("", keyless(byRef, "")) + "---\napiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: ours}\nspec: {remote: {mirror: 'https://tuf.example.com/', root: e30=" + more + "}}\n"
	}
	s.wants("not trusted here", remote(""), verify.Undecided, "no trust root on this machine is from https://tuf.example.com")
	s.trust[0].Repository = &trust.Repository{URL: "https://tuf.example.com", Roots: [][]byte{[]byte("{}")}, Target: "trusted_root.json"}
	s.wants("trusted here", remote(""), verify.Accepted, "")
	s.wants("its target", remote(", trustedRootTarget: trusted_root.json"), verify.Accepted, "")
	s.wants("another target", remote(", trustedRootTarget: production.json"), verify.Undecided, `found "production.json"`)
}

// TestTrustRootDemandsItsLog: the original skips the log if a trustRootRef stands without ctlog.
func TestTrustRootDemandsItsLog(t *testing.T) {
	s := newStage(t)
	h := s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people})
	h.Unlogged, h.Timestamped = true, true
	s.signed(h, "", s.store)
	services := "ca tsa tLogs ctLogs"
	s.wants("no entry", policies("", keyless(byRef, ""))+s.trustRoot("ours", s.p, services), verify.Rejected, "has no signature")
	s.wants("no log", policies("", keyless(byRef, ""))+s.trustRoot("ours", s.p, "ca tsa ctLogs"), verify.Accepted, "")
	stamp := "    rfc3161timestamp: {trustRootRef: ours}\n"
	s.wants("a timestamp", policies("", keyless(byRef, stamp))+s.trustRoot("ours", s.p, "ca tsa ctLogs"), verify.Accepted, "")
	s.wants("another's timestamp", policies("", keyless(byRef, "    rfc3161timestamp: {trustRootRef: tsa}\n"))+s.trustRoot("ours", s.p, "ca ctLogs")+s.trustRoot("tsa", prooftest.New(t), "ca tsa"), verify.Rejected, "has no signature")

	s = newStage(t)
	s.signed(s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people}), "", s.store)
	s.wants("no timestamp", policies("", keyless(byRef, stamp))+s.trustRoot("ours", s.p, services), verify.Rejected, "without a timestamp")
	s.signed(s.key, "", s.store)
	s.wants("a key without a timestamp", policies("", s.keyAuthority(s.key, stamp))+s.trustRoot("ours", s.p, services), verify.Rejected, "without a timestamp")
	s.key.Timestamped = true
	s.signed(s.key, "", s.store)
	s.wants("a key with a timestamp", policies("", s.keyAuthority(s.key, stamp))+s.trustRoot("ours", s.p, services), verify.Accepted, "")
}

// TestTrustRootRemote: a TrustRoot on a server is the trust root on this machine that is from there.
func TestTrustRootRemote(t *testing.T) {
	s := newStage(t)
	s.signed(s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people}), "", s.store)
	document := func(mirror, root string) string {
		return policies("", keyless(byRef, "")) + "---\napiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: ours}\nspec:\n  remote: {mirror: '" + mirror + "', root: " + base64.StdEncoding.EncodeToString([]byte(root)) + "}\n"
	}
	good := document("https://tuf.example.com", "root")
	s.wants("from nowhere", good, verify.Undecided, "no trust root on this machine is from https://tuf.example.com")
	here := *s.p.PlainRoot("https://another.example.com")
	here.Repository = &trust.Repository{URL: "https://tuf.example.com/", Roots: [][]byte{[]byte("root"), []byte("2.root")}}
	here.Expires = s.p.Now.Add(time.Hour)
	s.trust = []*trust.Root{&here}
	s.wants("from there", good, verify.Accepted, "")
	s.wants("from another root", document("https://tuf.example.com", "other"), verify.Undecided, "no trust root on this machine is from")
	s.wants("from another server", document("https://tuf.example.org", "root"), verify.Undecided, "no trust root on this machine is from")
	here.Expires = s.p.Now
	s.wants("expired", good, verify.Undecided, "expired on")
}

// TestBundles: a Sigstore bundle counts if the format says so.
func TestBundles(t *testing.T) {
	s := newStage(t)
	id := prooftest.Identity{SAN: ada, Issuer: people}
	s.store.Attach(s.image, s.p.Sign(id, s.statement(attest.PredicateSign, map[string]any{})), attest.PredicateSign)
	s.wants("a bundle", policies("", keyless(ours, format)), verify.Accepted, "")
	s.wants("legacy", policies("", keyless(ours, "")), verify.Rejected, "there is a Sigstore bundle, and signatureFormat is legacy")
	s.wants("trust roots that differ", policies("", keyless(byRef, format+"    ctlog: {trustRootRef: other}\n")), verify.Rejected, "all trustRootRef are the same")
	scan := "    attestations: [{name: scan, predicateType: '" + scanned + "'}]\n"
	s.wants("no attestation", policies("", keyless(ours, format+scan)), verify.Rejected, `attestation "scan": the image has no attestation`)
	s.store.Attach(s.image, s.p.Sign(id, s.statement(scanned, map[string]any{})), scanned)
	s.wants("an attestation", policies("", keyless(ours, format+scan)), verify.Accepted, "")
}

// TestUnsignedAttestations: an attestation by a key that nobody trusts, attached in any way.
func TestUnsignedAttestations(t *testing.T) {
	s := newStage(t)
	demand := policies("", s.keyAuthority(s.key, "    attestations: [{name: scan, predicateType: '"+scanned+"'}]\n"))
	stranger := s.p.KeyHolder()
	stranger.Unlogged = true
	envelope, annotations := stranger.Envelope(s.statement(scanned, map[string]any{}))
	s.store.Tagged(s.image, "att", s.store.Layer(envelope, attest.EnvelopeMediaType, annotations))
	s.store.ListedAs = "application/vnd.in-toto+json"
	s.store.AttachLayer(s.image, s.store.Layer(envelope, attest.EnvelopeMediaType, annotations))
	s.store.AttachFile(s.image, s.statement(scanned, map[string]any{}), "application/vnd.in-toto+json")
	s.store.Attach(s.image, envelope, scanned)
	s.wants("by a stranger", demand, verify.Rejected, "has no attestation")
	s.signed(s.key, "", s.store)
	s.wants("beside a good signature of the image", demand, verify.Rejected, "has no attestation")
	s.attested(s.key, map[string]any{})
	s.wants("by the key", demand, verify.Accepted, "")
	// An attestation is no signature of the image.
	s.store.Tag(oci.CosignSignatures.Of(s.image.Digest), s.image)
	s.wants("an attestation alone", policies("", s.keyAuthority(s.key, "")), verify.Rejected, "has no signature of the image")
}

// TestPoliciesOfStatements: policies in CUE and Rego about attestations.
func TestPoliciesOfStatements(t *testing.T) {
	evaluator(t)
	s := newStage(t)
	s.attested(s.key, map[string]any{"scanner": "x", "high": 2})
	ask := func(language, text string) string {
		return policies("", s.keyAuthority(s.key, "    attestations:\n    - name: scan\n      predicateType: "+scanned+"\n      policy:\n        type: "+language+"\n        data: |\n          "+strings.ReplaceAll(text, "\n", "\n          ")+"\n"))
	}
	for name, c := range map[string]struct {
		language, text string
		want           verify.Outcome
		words          string
	}{
		"holds":                     {"cue", `predicate: {scanner: "x", high: <5}`, verify.Accepted, ""},
		"differs":                   {"cue", `predicate: scanner: "y"`, verify.Rejected, "scanner"},
		"too many":                  {"cue", `predicate: high: <1`, verify.Rejected, "high"},
		"absent":                    {"cue", `predicate: missing: "x"`, verify.Rejected, "predicate.missing: the policy names it"},
		"required":                  {"cue", `predicate: missing!: "x"`, verify.Rejected, "missing"},
		"absent number":             {"cue", `predicate: n: >3`, verify.Rejected, "n"},
		"absent object":             {"cue", `predicate: o: {}`, verify.Rejected, "predicate.o"},
		"optional":                  {"cue", `predicate: o?: {a: 1}`, verify.Accepted, ""},
		"the whole statement":       {"cue", `predicateType: "` + scanned + `"`, verify.Accepted, ""},
		"not CUE":                   {"cue", `predicate: {`, verify.Undecided, "is not CUE"},
		"true":                      {"rego", "package sigstore\nisCompliant { input.predicate.high < 5 }", verify.Accepted, ""},
		"undefined":                 {"rego", "package sigstore\nisCompliant { input.predicate.high < 1 }", verify.Rejected, "is not defined"},
		"default false":             {"rego", "package sigstore\ndefault isCompliant = false\nisCompliant { input.predicate.high < 1 }", verify.Rejected, "isCompliant is false"},
		"missing member":            {"rego", "package sigstore\nisCompliant { not input.predicate.missing }", verify.Accepted, ""},
		"results":                   {"rego", "package sigstore\nisCompliant[r] { r := {\"result\": input.predicate.high < 5, \"error\": \"\", \"warning\": \"\"} }", verify.Accepted, ""},
		"a result with an error":    {"rego", "package sigstore\nisCompliant[r] { r := {\"result\": true, \"error\": \"too bad\"} }", verify.Rejected, "too bad"},
		"another package":           {"rego", "package signature\nisCompliant { true }", verify.Rejected, "is not defined"},
		"text that is true":         {"rego", "package sigstore\nisCompliant = \"true\" { true }", verify.Rejected, "expected true"},
		"a server":                  {"rego", "package sigstore\nisCompliant { http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}) }", verify.Undecided, "undefined function http.send"},
		"the environment":           {"rego", "package sigstore\nisCompliant { opa.runtime().env.PATH }", verify.Undecided, "undefined function opa.runtime"},
		"a bomb of CUE":             {"cue", "import \"list\"\npredicate: list.Repeat([1], 1000000000)", verify.Undecided, "exceeds limit"},
		"Rego v1 without its words": {"rego", "package sigstore\nisCompliant if { true }", verify.Undecided, "is not Rego v0"},
	} {
		s.wants(name, ask(c.language, c.text), c.want, c.words)
	}
	relaxed := strings.Replace(ask("cue", `predicate: missing: "x"`), "metadata: {name: demo}", "metadata:\n  name: demo\n  annotations: {"+cip.AbsentPasses+": pass}", 1)
	s.wants("the original's reading", relaxed, verify.Accepted, "")
	config := strings.Replace(ask("cue", "x: 1"), "data: |\n          x: 1", "configMapRef: {name: texts, key: scan}", 1)
	s.wants("a ConfigMap that nobody has", config, verify.Undecided, "put that ConfigMap into the file")
	s.wants("the ConfigMap", config+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata:\n  scan: 'predicate: scanner: \"x\"'\n", verify.Accepted, "")
	remote := strings.Replace(ask("cue", "x: 1"), "data: |\n          x: 1", "remote: {url: 'https://example.com/x', sha256sum: "+strings.Repeat("a", 64)+"}", 1)
	s.wants("a server", remote, verify.Undecided, "https://example.com/x, which is not asked")
}

// TestBomb: an evaluation that needs too much is ended, and decides nothing.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: takes the seconds that a policy may take")
	}
	evaluator(t)
	s := newStage(t)
	s.attested(s.key, map[string]any{})
	text := "package sigstore\n          isCompliant { x := numbers.range(1,3000); y := [z | a := x[_]; b := x[_]; z := a*b]; count(y) == 1 }"
	s.wants("a bomb of Rego", policies("", s.keyAuthority(s.key, "    attestations:\n    - name: scan\n      predicateType: "+scanned+"\n      policy:\n        type: rego\n        data: |\n          "+text+"\n")), verify.Undecided, "colophon-eval")
}

// TestPolicyOfAuthorities: the policy of the spec decides about all authorities that accept.
func TestPolicyOfAuthorities(t *testing.T) {
	evaluator(t)
	s := newStage(t)
	s.signed(s.key, "", s.store)
	two := "  - name: mine\n    " + strings.TrimPrefix(s.keyAuthority(s.key, ""), "  - ") + "  - name: other\n    " + strings.TrimPrefix(s.keyAuthority(s.p.KeyHolder(), ""), "  - ")
	ask := func(text, more string) string {
		return policies("  policy:\n    type: rego\n"+more+"    data: |\n      package sigstore\n      "+text+"\n", two)
	}
	s.wants("one is enough", ask(`isCompliant { count(input.authorityMatches) == 1; input.authorityMatches.mine.signatures[_].id }`, ""), verify.Accepted, "")
	s.wants("both", ask(`isCompliant { count(input.authorityMatches) == 2 }`, ""), verify.Rejected, "policy: rego")
	// Whoever keeps the signature of a recall from being read must not have it taken for absent.
	recalled := func(of, text string) string {
		return strings.Replace(ask(text, ""), "  - name: other\n", "  - name: recalled\n    key: "+of+"\n  - name: other\n", 1)
	}
	s.wants("a recall that is not known", recalled("{kms: 'awskms:///alias/x'}", `isCompliant { not input.authorityMatches.recalled }`), verify.Undecided, `authority "recalled"`)
	s.wants("refused, and not all is known", recalled("{kms: 'awskms:///alias/x'}", `isCompliant { input.authorityMatches.recalled }`), verify.Undecided, `authority "recalled"`)
	s.attested(s.key, map[string]any{})
	s.store.Fail[oci.CosignAttestations.Of(s.image.Digest)] = errors.New("the tag is asleep")
	s.wants("one signature, and there may be more", ask(`isCompliant { count(input.authorityMatches.mine.signatures) == 1 }`, ""), verify.Undecided, "asleep")
	delete(s.store.Fail, oci.CosignAttestations.Of(s.image.Digest))
	s.wants("an unknown workload", ask(`isCompliant { true }`, "    includeSpec: true\n"), verify.Undecided, "spec of the workload")
	s.wants("the configuration", ask(`isCompliant { true }`, "    fetchConfigFile: true\n"), verify.Undecided, "configuration of the image")
	s.work = &cip.Workload{Version: "v1", Resource: "pods", Spec: map[string]any{"hostNetwork": false}}
	s.wants("a workload", ask(`isCompliant { input.spec.hostNetwork == false }`, "    includeSpec: true\n"), verify.Accepted, "")
	s.wants("no authority accepts", strings.Replace(ask(`isCompliant { true }`, ""), "name: mine", "name: x", 1), verify.Accepted, "")
}

// TestMatch: policies about some workloads.
func TestMatch(t *testing.T) {
	s := newStage(t)
	demand := policies("  match: [{group: apps, version: '*', resource: deployments, selector: {matchLabels: {env: prod}}}]\n", "  - static: {action: pass}\n")
	s.wants("unknown", demand, verify.Undecided, "of these workloads it would be accepted")
	s.work = &cip.Workload{Group: "apps", Version: "v1", Resource: "deployments", Labels: map[string]string{"env": "prod"}}
	s.wants("matches", demand, verify.Accepted, "")
	for name, w := range map[string]cip.Workload{
		"another label":    {Group: "apps", Version: "v1", Resource: "deployments", Labels: map[string]string{"env": "test"}},
		"another group":    {Version: "v1", Resource: "deployments", Labels: map[string]string{"env": "prod"}},
		"another resource": {Group: "apps", Version: "v1", Resource: "pods", Labels: map[string]string{"env": "prod"}},
	} {
		s.work = &w
		s.wants(name, demand, verify.Rejected, "no rule of the policy")
	}
}

// TestSource: signatures in another repository, with a prefix.
func TestSource(t *testing.T) {
	s := newStage(t)
	elsewhere := prooftest.NewStore(t)
	elsewhere.RepositoryIs = "127.0.0.1:8080/signatures"
	s.signed(s.key, "team-", elsewhere)
	source := func(members string) string {
		return policies("", s.keyAuthority(s.key, "    source: [{"+members+"}]\n"))
	}
	s.wants("nobody opens it", source("oci: 127.0.0.1:8080/signatures"), verify.Undecided, "cannot be asked here")
	s.open = func(name string) (oci.Source, error) {
		if name != elsewhere.RepositoryIs {
			return nil, fmt.Errorf("no %s", name)
		}
		return elsewhere, nil
	}
	s.wants("with the prefix", source("oci: 127.0.0.1:8080/signatures, tagPrefix: team-"), verify.Accepted, "")
	s.wants("without the prefix", source("oci: 127.0.0.1:8080/signatures"), verify.Rejected, "has no signature")
	s.wants("not beside the image", policies("", s.keyAuthority(s.key, "")), verify.Rejected, "has no signature")
	s.wants("another repository", source("oci: 127.0.0.1:8080/x"), verify.Undecided, "no 127.0.0.1:8080/x")
	elsewhere.FailListing = errors.New("the registry is asleep")
	s.wants("asleep", source("oci: 127.0.0.1:8080/signatures"), verify.Undecided, "asleep")
}

// TestEvidenceIsClosed: what was not asked for is undecided, and a query needs no network later.
func TestEvidenceIsClosed(t *testing.T) {
	s := newStage(t)
	s.signed(s.key, "", s.store)
	now := s.p.Now
	ev := verify.Gather(context.Background(), s.store, s.image.Digest.String(), now, verify.Options{}, verify.Ask{Queries: []verify.Query{{Trust: s.trust}}})
	objects, err := cip.Parse([]byte(policies("", s.keyAuthority(s.key, ""))))
	if err != nil {
		t.Fatal(err)
	}
	all := cluster.New(objects, cluster.Options{Trust: s.trust})
	image := policy.Image{Name: "registry.example.com/team/app", Digest: s.image.Digest.String()}
	if d := ev.DecideWith(nil, image, verify.With{Others: all.Decide(t.Context(), ev, image, nil, now)}); d.Outcome != verify.Undecided {
		t.Errorf("got %s: %s, want it undecided", d.Outcome, d.Reason)
	}
}
