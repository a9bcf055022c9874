// Package trustservices holds the platform's trust services, joined as they are
// in colophond but without the rest of it, against stock clients: sigstore-go's
// signer, verifier and TUF client, and cosign. No check of theirs is turned off.
package trustservices

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	sigroot "github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/platform/authority/ca"
	"github.com/colophon-build/colophon/platform/authority/ctlog"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/authority/tsa"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// services are the trust services on one origin.
type services struct {
	url    string
	issuer *issuer.Service
	ct     *ctlog.Service
	log    *log.Server
	root   *root.Service
	http   *httptest.Server
	took   time.Duration // from nothing to answering
}

// start serves dir at addr; "127.0.0.1:0" for any port.
func start(t testing.TB, dir, addr string) *services {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &services{url: "http://" + l.Addr().String()}
	keys := filepath.Join(dir, "trust")
	fatal := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.issuer, err = issuer.New(issuer.Config{Dir: keys, URL: s.url})
	fatal(err)
	s.ct, err = ctlog.New(ctlog.Config{KeyDir: keys, TileDir: filepath.Join(dir, "ct"), URL: s.url})
	fatal(err)
	authority, err := ca.New(ca.Config{Dir: keys, URL: s.url, TokenKey: s.issuer.PublicKey(), AddPreChain: s.ct.AddPreChain})
	fatal(err)
	clock, err := tsa.New(tsa.Config{Dir: keys})
	fatal(err)
	s.log, err = log.New(log.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(keys, "log.key"), Origin: "127.0.0.1"})
	fatal(err)
	s.root, err = root.New(root.Config{
		KeyDir: keys, Dir: filepath.Join(dir, "tuf"), URL: s.url,
		CA: authority.Chain(), TSA: clock.Chain(),
		CT:       root.Log{BaseURL: s.url + "/ct", PublicKey: s.ct.PublicKey(), Since: s.ct.Since()},
		Log:      root.Log{Origin: s.log.Origin(), BaseURL: s.url, PublicKey: s.log.PublicKey(), KeyID: s.log.KeyID(), Since: s.log.Created()},
		Builders: []trust.Builder{{ID: s.url + "/builders/test/v1", Level: 3}},
	})
	fatal(err)
	mux := http.NewServeMux()
	for _, r := range []interface{ Register(*http.ServeMux) }{s.issuer, s.ct, authority, clock, s.log, s.root} {
		r.Register(mux)
	}
	s.http = &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.http.Start()
	s.took = time.Since(began)
	t.Cleanup(s.stop)
	return s
}

func (s *services) stop() {
	s.http.Close()
	s.ct.Close(context.Background())
	s.log.Close(context.Background())
}

func (s *services) token(t testing.TB) string {
	t.Helper()
	token, err := s.issuer.Mint(issuer.Claims{
		BuilderID: s.url + "/builders/test/v1", RunnerEnvironment: "self-hosted",
		SourceURI: "https://git.example.com/team/app", SourceDigest: strings.Repeat("a", 40), SourceRef: "refs/tags/v1.0.0",
		BuildTrigger: "release", InvocationURI: s.url + "/api/v1/releases/1", ParametersDigest: "sha256:" + strings.Repeat("c", 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (s *services) get(t testing.TB, path string) []byte {
	t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return data
}

// trusted is the trusted root as a client fetches it.
func (s *services) trusted(t testing.TB) *sigroot.TrustedRoot {
	t.Helper()
	tr, err := sigroot.NewTrustedRootFromJSON(s.get(t, root.TrustedRootPath))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// sign makes a bundle over data with sigstore-go's signer: certificate,
// timestamp and log entry of ours.
func (s *services) sign(t testing.TB, data []byte) *bundle.Bundle {
	t.Helper()
	pair, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		t.Fatal(err)
	}
	pb, err := sign.Bundle(&sign.PlainData{Data: data}, pair, sign.BundleOptions{
		Context:                    t.Context(),
		CertificateProvider:        sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.url}),
		CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: s.token(t)},
		TimestampAuthorities:       []*sign.TimestampAuthority{sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: s.url + tsa.Path})},
		TransparencyLogs:           []sign.Transparency{sign.NewRekor(&sign.RekorOptions{BaseURL: s.url, Version: 2})},
		TrustedRoot:                s.trusted(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.NewBundle(pb)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(s *services, tr sigroot.TrustedMaterial, b *bundle.Bundle, data []byte, builder string) error {
	v, err := verify.NewVerifier(tr, verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		return err
	}
	id, err := verify.NewShortCertificateIdentity(s.url, "", builder, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(data)), verify.WithCertificateIdentity(id)))
	return err
}

func TestSigstoreGoSignsAndVerifies(t *testing.T) {
	s, stranger := start(t, t.TempDir(), "127.0.0.1:0"), start(t, t.TempDir(), "127.0.0.1:0")
	data := []byte("an artifact")
	b := s.sign(t, data)
	builder := s.url + "/builders/test/v1"
	if err := check(s, s.trusted(t), b, data, builder); err != nil {
		t.Fatal(err)
	}
	if err := check(s, s.trusted(t), b, data, builder+"x"); err == nil {
		t.Error("verified for another builder")
	}
	if err := check(s, s.trusted(t), b, []byte("another artifact"), builder); err == nil {
		t.Error("verified another artifact")
	}
	if err := check(s, stranger.trusted(t), b, data, builder); err == nil {
		t.Error("verified with the trusted root of another platform")
	}
	// Each single service of the stranger in place of ours breaks it.
	for _, part := range []string{"certificateAuthorities", "ctlogs", "timestampAuthorities", "tlogs"} {
		var ours, theirs map[string]any
		for data, into := range map[*services]*map[string]any{s: &ours, stranger: &theirs} {
			if err := json.Unmarshal(data.get(t, root.TrustedRootPath), into); err != nil {
				t.Fatal(err)
			}
		}
		ours[part] = theirs[part]
		mixed, err := json.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := sigroot.NewTrustedRootFromJSON(mixed)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(s, tr, b, data, builder); err == nil {
			t.Errorf("verified with the stranger's %s", part)
		}
	}
}

// A restart keeps all that was ever said about the platform, and what was
// signed before verifies after.
func TestRestartKeepsTheTrust(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "127.0.0.1:0")
	first := s.took
	cache := t.TempDir()
	pinned := s.get(t, "/tuf/1.root.json")
	tufTarget(t, s, cache, pinned)
	data := []byte("an artifact")
	b := s.sign(t, data)
	document := s.get(t, root.DocumentPath)
	s.stop()
	again := start(t, dir, strings.TrimPrefix(s.url, "http://"))
	if !bytes.Equal(document, again.get(t, root.DocumentPath)) {
		t.Error("the trust document changed over a restart")
	}
	if err := check(again, again.trusted(t), b, data, again.url+"/builders/test/v1"); err != nil {
		t.Error(err)
	}
	tufTarget(t, again, cache, pinned)
	again.sign(t, data)
	t.Logf("ready after %s at first, %s at second start", first, again.took)
}

func tufTarget(t testing.TB, s *services, cache string, pinned []byte) {
	t.Helper()
	client, err := tuf.New(&tuf.Options{RepositoryBaseURL: s.url + "/tuf", Root: pinned, CachePath: cache})
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.GetTarget("trusted_root.json")
	if err != nil {
		t.Fatal(err)
	}
	if want := s.get(t, root.TrustedRootPath); !bytes.Equal(got, want) {
		t.Errorf("TUF gives another trusted root: %s", got)
	}
}

// cosign is told of the platform in the two ways that its users know: once by
// `cosign initialize`, and by files.
func TestCosign(t *testing.T) {
	cosign := harness.Bin(t, "cosign")
	s := start(t, t.TempDir(), "127.0.0.1:0")
	home := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), cosign, args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "TUF_ROOT="+filepath.Join(home, "tuf"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cosign %s: %v\n%s", args[0], err, out)
		} else if strings.Contains(string(out), "WARNING: Could not fetch") {
			t.Fatalf("cosign %s: %s", args[0], out)
		}
	}
	file := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sum := sha256.Sum256(s.get(t, "/tuf/1.root.json"))
	run("initialize", "--mirror", s.url+"/tuf", "--root", s.url+"/tuf/1.root.json", "--root-checksum", hex.EncodeToString(sum[:]))
	blob := file("blob", []byte("an artifact"))
	identity := []string{"--certificate-identity", s.url + "/builders/test/v1", "--certificate-oidc-issuer", s.url}

	// By path: cosign takes only RS256 tokens as the flag's own value.
	token := file("token", []byte(s.token(t)))

	byTUF := filepath.Join(home, "tuf.bundle")
	run("sign-blob", "--yes", "--identity-token", token, "--bundle", byTUF, blob)
	run(append([]string{"verify-blob", "--bundle", byTUF, blob}, identity...)...)

	trusted := file("trusted_root.json", s.get(t, root.TrustedRootPath))
	signing := file("signing_config.json", s.get(t, root.SigningConfigPath))
	byFile := filepath.Join(home, "file.bundle")
	run("sign-blob", "--yes", "--signing-config", signing, "--trusted-root", trusted, "--identity-token", token, "--bundle", byFile, blob)
	run(append([]string{"verify-blob", "--trusted-root", trusted, "--bundle", byFile, blob}, identity...)...)
}

// BenchmarkCertificate is a whole request over loopback: token, key pair, proof
// of possession, certificate with SCT durably in the CT log.
func BenchmarkCertificate(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("%d-clients", clients), func(b *testing.B) {
			s := start(b, b.TempDir(), "127.0.0.1:0")
			fulcio := sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.url})
			pair, err := sign.NewEphemeralKeypair(nil)
			if err != nil {
				b.Fatal(err)
			}
			token := s.token(b)
			work := make(chan struct{})
			done := make(chan error, clients)
			for range clients {
				go func() {
					var err error
					for range work {
						_, err = fulcio.GetCertificate(context.Background(), pair, &sign.CertificateProviderOptions{IDToken: token})
						if err != nil {
							b.Error(err)
						}
					}
					done <- err
				}()
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			for range clients {
				<-done
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certs/s")
		})
	}
}
