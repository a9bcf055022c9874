package bench

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkInvestigatePlatform investigates an image of a platform that has released many: its log has that many entries in
// the name of the builder, and its archive as many provenances of the builder and its host. They are copies of a real one
// with another digest, which nobody signed: what is measured is search, not verification.
func BenchmarkInvestigatePlatform(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	n := 100_000
	if s := os.Getenv("COLOPHON_BENCH_RELEASES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	p := harness.Start(b)
	p.Trust()
	repo := harness.GoRepo(b)
	var released api.Release
	if err := json.Unmarshal(run(b, p.Colophon(b.Context(), "release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/bench/app", "--json")), &released); err != nil {
		b.Fatal(err)
	}
	image, source := released.Image+"@"+released.Digest, "file://"+repo
	start := time.Now()
	fillArchive(b, p, released.Digest, n)
	row(fmt.Sprintf("%d provenances archived", n), time.Since(start), "")
	start = time.Now()
	fillLog(b, p, released.Builder, n)
	row(fmt.Sprintf("%d entries logged", n), time.Since(start), "")
	start = time.Now()
	for _, search := range [][]string{{"--identity", released.Builder}, {"--builder", released.Builder}} {
		for has := 0; has < n; time.Sleep(time.Second) {
			var found struct{ Total int }
			if err := json.Unmarshal(run(b, p.Colophon(b.Context(), append([]string{"log", "search", "--limit", "1", "--json"}, search...)...)), &found); err != nil {
				b.Fatal(err)
			}
			has = found.Total
		}
	}
	row("  until both indexes have them", time.Since(start), "")
	gittest.Git(b, repo, "tag", "-d", "v1.0.0") // the first line says so
	host, _, _ := strings.Cut(p.Addr, ":")
	for range 3 {
		asked(b, "investigate an image whose tag is gone", p.Colophon(b.Context(), "investigate", image, "--source", source), "broken link: standing")
	}
	asked(b, "investigate --builder", p.Colophon(b.Context(), "investigate", "--builder", released.Builder), "builder ")
	asked(b, "investigate --host", p.Colophon(b.Context(), "investigate", "--host", host), "host ")
}

// asked prints how long a command takes to its first line, which must begin so, and to its end.
func asked(b *testing.B, what string, cmd *exec.Cmd, begins string) {
	b.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	first := time.Since(start)
	rest, _ := io.ReadAll(lines)
	_ = cmd.Wait() // a broken link has an exit code
	if err != nil || !strings.HasPrefix(line, begins) {
		b.Fatalf("%s: got %q, %v\n%s%s", what, line, err, rest, stderr.String())
	}
	row(what+", first line", first, "aim 1 s")
	row("  whole", time.Since(start), "aim 5 s")
}

// fillArchive archives n copies of the provenance of an image, about other digests.
func fillArchive(b *testing.B, p *harness.Platform, digest string, n int) {
	b.Helper()
	c := &api.ClientConfig{URL: p.URL, Token: p.Token("client.json")}
	kept, err := c.KeptAbout(b.Context(), digest, 0)
	if err != nil {
		b.Fatal(err)
	}
	var bundle, payload []byte
	for _, k := range kept.Kept {
		raw, err := c.Content(b.Context(), k)
		if err != nil {
			b.Fatal(err)
		}
		var d struct {
			Envelope struct {
				Payload []byte `json:"payload"`
			} `json:"dsseEnvelope"`
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			b.Fatal(err)
		}
		if bytes.Contains(d.Envelope.Payload, []byte(`"https://slsa.dev/provenance/v1"`)) {
			bundle, payload = raw, d.Envelope.Payload
		}
	}
	if bundle == nil {
		b.Fatal("the archive has no provenance of the image")
	}
	hex := []byte(strings.TrimPrefix(digest, "sha256:"))
	was := []byte(base64.StdEncoding.EncodeToString(payload))
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error {
			sum := sha256.Sum256([]byte(strconv.Itoa(i)))
			now := bytes.ReplaceAll(payload, hex, fmt.Appendf(nil, "%x", sum))
			raw := bytes.Replace(bundle, was, []byte(base64.StdEncoding.EncodeToString(now)), 1)
			for {
				_, err := c.Keep(b.Context(), raw)
				if err == nil || !strings.Contains(err.Error(), "busy") {
					return err
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// fillLog logs n signatures with a certificate of their own that has a name: anybody can.
func fillLog(b *testing.B, p *harness.Platform, name string, n int) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	u, err := url.Parse(name)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{u}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var group errgroup.Group
	group.SetLimit(64)
	for i := range n {
		group.Go(func() error {
			sum := sha256.Sum256([]byte(strconv.Itoa(i)))
			sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
			if err != nil {
				return err
			}
			b64 := base64.StdEncoding.EncodeToString
			body := fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"x509Certificate":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`, b64(sum[:]), b64(sig), b64(der))
			for {
				resp, err := client.Post(p.URL+"/api/v2/log/entries", "application/json", strings.NewReader(body))
				if err != nil {
					return err
				}
				text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
				_ = resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusCreated:
					return nil
				case http.StatusTooManyRequests, http.StatusServiceUnavailable:
					time.Sleep(20 * time.Millisecond)
				default:
					return fmt.Errorf("%s: %.300s", resp.Status, text)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}
