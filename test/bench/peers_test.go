package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/tlog"
)

// signing measures the time to sign, log and timestamp a statement, with the platform's
// log and with rekor-tiles' server. Both use the platform's CA and timestamp authority.
func signing(b *testing.B, p *harness.Platform) {
	ours := signingSetup(b, p.Get("/signing_config.json"), p.Get("/trusted_root.json"))
	peer := startRekor(b)
	theirs := signingSetup(b, peer.signingConfig(b, p.Get("/signing_config.json")), peer.trustedRoot(b, p.Get("/trusted_root.json")))
	one, _ := signMany(b, p, ours, 1, 10)
	onePeer, _ := signMany(b, p, theirs, 1, 5)
	row("statement to proved bundle, 1 client", one, "aim 200 ms")
	row("  the same with rekor-tiles' log", onePeer, "")
	lat, rate := signMany(b, p, ours, 64, 10)
	latPeer, ratePeer := signMany(b, p, theirs, 64, 4)
	row(fmt.Sprintf("statement to proved bundle, 64 clients: %.0f/s", rate), lat, "")
	row(fmt.Sprintf("  the same with rekor-tiles' log: %.0f/s", ratePeer), latPeer, "")
	fmt.Printf("%-58s %8.2f      %s\n", "  rate over rekor-tiles'", rate/ratePeer, "aim 5")
}

// signingServices are the services to sign with, and the trusted root that has them.
type signingServices struct {
	config  *root.SigningConfig
	trusted root.TrustedMaterial
}

func signingSetup(b *testing.B, signingConfig, trustedRoot []byte) signingServices {
	sc, err := root.NewSigningConfigFromJSON(signingConfig)
	if err != nil {
		b.Fatal(err)
	}
	tr, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		b.Fatal(err)
	}
	return signingServices{sc, tr}
}

// mint requests a token as the attestor does.
func mint(ctx context.Context, c *http.Client, claims issuer.Claims) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://trust"+issuer.PathToken, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("token: %s, %v", resp.Status, err)
	}
	return answer.Token, nil
}

// signMany makes each of the clients sign each statements with its own certificate.
func signMany(b *testing.B, p *harness.Platform, services signingServices, clients, each int) (latency time.Duration, rate float64) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	tokens := p.As("attestor", "trust")
	sessions := make([]*sign.Session, clients)
	for i := range sessions {
		token, err := mint(ctx, tokens, issuer.Claims{
			BuilderID: p.URL + "/builders/bench/v1", RunnerEnvironment: "bench", SourceURI: "https://git.example.com/bench",
			SourceDigest: "0123456789012345678901234567890123456789", BuildTrigger: "bench", InvocationURI: p.URL + "/bench", ParametersDigest: attest.ParametersDigest(nil),
		})
		if err != nil {
			b.Fatal(err)
		}
		if sessions[i], err = sign.Open(ctx, services.config, services.trusted, token, nil); err != nil {
			b.Fatal(err)
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for c, s := range sessions {
		wg.Go(func() {
			for i := range each {
				st, err := attest.NewStatement("bench", fmt.Sprintf("%064x", c*1000+i+1), attest.PredicateSign, struct{}{})
				if err == nil {
					begin := time.Now()
					if _, err = s.Statement(ctx, st); err == nil {
						mu.Lock()
						all = append(all, time.Since(begin))
						mu.Unlock()
					}
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if len(all) == 0 {
		b.Fatal("nothing was signed")
	}
	return median(all), float64(len(all)) / time.Since(start).Seconds()
}

// rekor is rekor-tiles' server with its fastest settings.
type rekor struct {
	url string
	key ed25519.PublicKey
}

func startRekor(b *testing.B) *rekor {
	dir := b.TempDir()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		b.Fatal(err)
	}
	ports := freePorts(b, 3)
	cmd := exec.Command(harness.Bin(b, "rekor-server"), "serve", "--hostname", "127.0.0.1", "--http-port", ports[0], "--grpc-port", ports[1], "--http-metrics-port", ports[2],
		"--signer-filepath", key, "--storage-dir", filepath.Join(dir, "log"), "--checkpoint-interval", "1s", "--batch-max-age", "1ms", "--log-level", "error",
		"--client-signing-algorithms", "ecdsa-sha2-256-nistp256")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	r := &rekor{url: "http://127.0.0.1:" + ports[0], key: pub}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(r.url + "/healthz"); err == nil {
			resp.Body.Close()
			return r
		}
		if time.Now().After(deadline) {
			b.Fatal("rekor-server does not answer")
		}
	}
}

func (r *rekor) signingConfig(b *testing.B, ours []byte) []byte {
	return edit(b, ours, func(m map[string]any) {
		for _, u := range m["rekorTlogUrls"].([]any) {
			u.(map[string]any)["url"] = r.url
		}
	})
}

func (r *rekor) trustedRoot(b *testing.B, ours []byte) []byte {
	id, err := tlog.LogID("127.0.0.1", r.key)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(r.key)
	if err != nil {
		b.Fatal(err)
	}
	return edit(b, ours, func(m map[string]any) {
		l := m["tlogs"].([]any)[0].(map[string]any)
		l["baseUrl"] = r.url
		l["logId"] = map[string]any{"keyId": base64.StdEncoding.EncodeToString(id[:])}
		l["publicKey"].(map[string]any)["rawBytes"] = base64.StdEncoding.EncodeToString(spki)
		l["publicKey"].(map[string]any)["validFor"] = map[string]any{"start": "2020-01-01T00:00:00Z"}
	})
}

func edit(b *testing.B, doc []byte, change func(map[string]any)) []byte {
	var m map[string]any
	if err := json.Unmarshal(doc, &m); err != nil {
		b.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// peerSequence runs the commands that teams run on a finished image today.
func peerSequence(b *testing.B, p *harness.Platform, image string) time.Duration {
	dir := b.TempDir()
	r := startRekor(b)
	root, config := filepath.Join(dir, "root.json"), filepath.Join(dir, "config.json")
	for file, data := range map[string][]byte{root: r.trustedRoot(b, p.Get("/trusted_root.json")), config: r.signingConfig(b, p.Get("/signing_config.json"))} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	env := append(os.Environ(), "DOCKER_CONFIG="+p.DockerConfig(), "COSIGN_PASSWORD=", "SYFT_CHECK_FOR_APP_UPDATE=false", "SYFT_REGISTRY_INSECURE_USE_HTTP=true")
	tool := func(name string, args ...string) {
		cmd := exec.Command(harness.Bin(b, name), args...)
		cmd.Dir, cmd.Env = dir, env
		run(b, cmd)
	}
	tool("cosign", "generate-key-pair")
	common := []string{"--yes", "--key", filepath.Join(dir, "cosign.key"), "--signing-config", config, "--trusted-root", root}
	provenance := filepath.Join(dir, "provenance.json")
	if err := os.WriteFile(provenance, []byte(`{"buildDefinition":{"buildType":"x","externalParameters":{}},"runDetails":{"builder":{"id":"x"}}}`), 0o600); err != nil {
		b.Fatal(err)
	}
	return times(3, func() {
		tool("syft", "registry:"+image, "-q", "-o", "spdx-json="+filepath.Join(dir, "sbom.json"))
		tool("cosign", append(append([]string{"sign"}, common...), image)...)
		tool("cosign", append(append([]string{"attest", "--type", "slsaprovenance1", "--predicate", provenance}, common...), image)...)
		tool("cosign", append(append([]string{"attest", "--type", "spdxjson", "--predicate", filepath.Join(dir, "sbom.json")}, common...), image)...)
	})
}

// startMirror serves the base images to the bare buildkitd.
func startMirror(b *testing.B) (addr string) {
	m, err := gateway.OpenMirror(harness.BaseImages(b))
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: m}
	go srv.Serve(l)
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

func freePorts(b *testing.B, n int) []string {
	var out []string
	for range n {
		_, port, _ := net.SplitHostPort(freeport.Address(b))
		out = append(out, port)
	}
	return out
}
