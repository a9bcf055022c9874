package root

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata/fetcher"

	"github.com/colophon-build/colophon/trust"

	"github.com/colophon-build/colophon/internal/intact"
)

var born = time.Now().UTC().Truncate(time.Second)

// chain is a leaf (or issuing certificate) and its root.
func chain(t testing.TB, leafIsCA bool) []*x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rootTmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: born, NotAfter: born.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leafTmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: born, NotAfter: born.Add(time.Hour),
		IsCA: leafIsCA, BasicConstraintsValid: true,
	}
	var out []*x509.Certificate
	for _, tmpl := range []*x509.Certificate{leafTmpl, rootTmpl} {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, rootTmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func config(t testing.TB) Config {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ct, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(append([]byte("127.0.0.1\n\x01"), public...))
	const url = "http://127.0.0.1:8080"
	return Config{
		KeyDir: t.TempDir(), Dir: t.TempDir(), URL: url,
		CA: chain(t, true), TSA: chain(t, false),
		CT:       Log{BaseURL: url + "/ct", PublicKey: ct.Public(), Since: born},
		Log:      Log{Origin: "127.0.0.1", BaseURL: url, PublicKey: public, KeyID: id[:], Since: born},
		Builders: []trust.Builder{{ID: url + "/builders/buildkit/v1", Level: 3}},
	}
}

func open(t testing.TB, cfg Config) *Service {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t testing.TB, s *Service) string {
	t.Helper()
	mux := http.NewServeMux()
	s.Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func get(t testing.TB, url string, want int) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s: got %d, want %d", url, resp.StatusCode, want)
	}
	return body
}

func TestDocumentsAreTheSameAfterEveryStart(t *testing.T) {
	cfg := config(t)
	one := open(t, cfg)
	url := serve(t, one)
	two := open(t, cfg)
	for path, want := range map[string][]byte{TrustedRootPath: two.TrustedRoot(), SigningConfigPath: two.SigningConfig(), DocumentPath: two.Document()} {
		if got := get(t, url+path, 200); !bytes.Equal(got, want) {
			t.Errorf("%s: got %s after a restart, want %s", path, want, got)
		}
	}
	parsed, err := trust.Parse(one.Document())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := parsed.Builder(cfg.Builders[0].ID, nil); !ok {
		t.Error("the platform's builder is not trusted")
	}
	sc, err := root.NewSigningConfigFromJSON(one.SigningConfig())
	if err != nil {
		t.Fatal(err)
	}
	if svc, err := root.SelectService(sc.RekorLogURLs(), []uint32{1, 2}, time.Now()); err != nil || svc.MajorAPIVersion != 2 {
		t.Errorf("got log %+v, %v", svc, err)
	}
}

func TestConfigurationThatClientsWouldStumbleOver(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"origin with port":  func(c *Config) { c.Log.Origin = "127.0.0.1:8080" },
		"other key id":      func(c *Config) { c.Log.KeyID = make([]byte, 32) },
		"no key id":         func(c *Config) { c.Log.KeyID = nil },
		"no since":          func(c *Config) { c.Log.Since = time.Time{} },
		"no since for CT":   func(c *Config) { c.CT.Since = time.Time{} },
		"TSA without leaf":  func(c *Config) { c.TSA = chain(t, true) },
		"chain of others":   func(c *Config) { c.CA[1] = chain(t, true)[1] },
		"chain of one":      func(c *Config) { c.CA = c.CA[:1] },
		"no builder":        func(c *Config) { c.Builders = nil },
		"builder of others": func(c *Config) { c.Builders[0].ID = "https://elsewhere.example/builders/x" },
		"outside, no root":  func(c *Config) { c.Outside = &Outside{SigningConfig: []byte("{}")} },
		"outside, other media": func(c *Config) {
			c.Outside = &Outside{TrustedRoot: []byte(`{"mediaType":"x"}`), SigningConfig: []byte("{}")}
		},
	} {
		cfg := config(t)
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOutsideServicesAreHandedOnByteForByte(t *testing.T) {
	theirs := open(t, config(t))
	var compact bytes.Buffer
	if err := json.Compact(&compact, theirs.TrustedRoot()); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.CA, cfg.TSA, cfg.CT, cfg.Log = nil, nil, Log{}, Log{}
	cfg.Outside = &Outside{TrustedRoot: compact.Bytes(), SigningConfig: theirs.SigningConfig()}
	url := serve(t, open(t, cfg))
	if got := get(t, url+TrustedRootPath, 200); !bytes.Equal(got, compact.Bytes()) {
		t.Errorf("got %s", got)
	}
	client := newClient(t, url, t.TempDir(), get(t, url+"/tuf/1.root.json", 200))
	if got := target(t, client, "trusted_root.json"); !bytes.Equal(got, compact.Bytes()) {
		t.Errorf("got %s over TUF", got)
	}
}

func newClient(t testing.TB, url, cache string, rootJSON []byte) *tuf.Client {
	t.Helper()
	c, err := tuf.New(&tuf.Options{RepositoryBaseURL: url + "/tuf", Root: rootJSON, CachePath: cache, Fetcher: fetcher.NewDefaultFetcher()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func target(t testing.TB, c *tuf.Client, name string) []byte {
	t.Helper()
	data, err := c.GetTarget(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// One client with its cache follows the repository through restarts, changes
// and years. It would refuse any version that goes back.
func TestClientFollowsForYears(t *testing.T) {
	cfg := config(t)
	var current *Service
	url := serveCurrent(t, &current)
	current = open(t, cfg)
	pinned, cache := get(t, url+"/tuf/1.root.json", 200), t.TempDir()
	before := versions(t, cfg.Dir)
	for name, want := range map[string][]byte{
		"trusted_root.json": current.TrustedRoot(), "signing_config.v0.2.json": current.SigningConfig(),
		"signing_config_rekor_v2.v0.2.json": current.SigningConfig(),
	} {
		if got := target(t, newClient(t, url, cache, pinned), name); !bytes.Equal(got, want) {
			t.Errorf("%s: got %s", name, got)
		}
	}
	current = open(t, cfg)
	if got := versions(t, cfg.Dir); got != before {
		t.Errorf("a restart published anew: got %s, want %s", got, before)
	}
	// The trusted root changes: the log gets another key.
	next := config(t)
	cfg.Log = next.Log
	current = open(t, cfg)
	if got := target(t, newClient(t, url, cache, pinned), "trusted_root.json"); !bytes.Equal(got, current.TrustedRoot()) {
		t.Error("the client did not get the new trusted root")
	}
	if got := versions(t, cfg.Dir); got != "root 1 targets 2 snapshot 2 timestamp 2" {
		t.Errorf("got %s", got)
	}
	// Time passes. The client's clock is the real one, so what it sees expires
	// later and later, and never before now.
	for range 40 {
		was := current.tuf.now
		current.tuf.now = func() time.Time { return was().Add(25 * 24 * time.Hour) }
		if err := current.tuf.publish(); err != nil {
			t.Fatal(err)
		}
		if left := expires(t, filepath.Join(cfg.Dir, "timestamp.json")).Sub(current.tuf.now()); left < timestampLife/3 {
			t.Fatalf("the timestamp is good for %s", left)
		}
	}
	newClient(t, url, cache, pinned)
	if got := versions(t, cfg.Dir); !strings.HasPrefix(got, "root 2 ") {
		t.Errorf("got %s, want a second root after three years", got)
	}
}

// A clock that was years ahead for a while leaves no metadata that is good for years: with it, an old trust root
// could be shown for as long.
func TestClockWasAhead(t *testing.T) {
	cfg := config(t)
	s := open(t, cfg)
	url := serve(t, s)
	pinned, cache := get(t, url+"/tuf/1.root.json", 200), t.TempDir()
	for _, ahead := range []time.Duration{10 * 365 * 24 * time.Hour, 0} {
		s.tuf.now = func() time.Time { return time.Now().Add(ahead) }
		if err := s.tuf.publish(); err != nil {
			t.Fatal(err)
		}
		newClient(t, url, cache, pinned)
	}
	for name, life := range map[string]time.Duration{"timestamp.json": timestampLife, "3.root.json": rootLife, "3.snapshot.json": snapshotLife, "3.targets.json": targetsLife} {
		if left := time.Until(expires(t, filepath.Join(cfg.Dir, name))); left > life {
			t.Errorf("%s is good for %s, want at most %s", name, left, life)
		}
	}
	before := versions(t, cfg.Dir)
	if err := s.tuf.publish(); err != nil || versions(t, cfg.Dir) != before {
		t.Errorf("published again: got %s, %v, want %s", versions(t, cfg.Dir), err, before)
	}
}

// serveCurrent serves the current *s at one URL: clients cache by URL, and a restart keeps
// the URL.
func serveCurrent(t testing.TB, s **Service) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/tuf/{path...}", func(w http.ResponseWriter, r *http.Request) { (*s).tuf.serve(w, r) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

func versions(t testing.TB, dir string) string {
	t.Helper()
	r := &repository{dir: dir}
	var out []string
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		v, err := r.highest(role)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, role, big.NewInt(v).String())
	}
	return strings.Join(out, " ")
}

func expires(t testing.TB, path string) time.Time {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Signed struct {
			Expires time.Time `json:"expires"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m.Signed.Expires
}

// A crash between any two files of a publication leaves a repository that clients can use,
// and the next start finishes the publication.
func TestCrashWhilePublishing(t *testing.T) {
	cfg := config(t)
	current := open(t, cfg)
	url := serveCurrent(t, &current)
	pinned := get(t, url+"/tuf/1.root.json", 200)
	seen := t.TempDir()
	newClient(t, url, seen, pinned)
	whole := t.TempDir()
	if err := os.CopyFS(whole, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	cfg.Log = config(t).Log
	second := open(t, cfg)
	for _, done := range [][]string{{}, {"2.targets.json"}, {"2.targets.json", "2.snapshot.json"}, {"2.targets.json", "2.snapshot.json", "2.timestamp.json"}} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		for _, name := range done {
			data, err := os.ReadFile(filepath.Join(cfg.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		crashed := cfg
		crashed.Dir = dir
		cache := t.TempDir()
		if err := os.CopyFS(cache, os.DirFS(seen)); err != nil {
			t.Fatal(err)
		}
		current = open(t, crashed)
		if got := target(t, newClient(t, url, cache, pinned), "trusted_root.json"); !bytes.Equal(got, second.TrustedRoot()) {
			t.Errorf("after %v: the client did not get the new trusted root", done)
		}
	}
	// Before the first timestamp, the same.
	if err := os.Remove(filepath.Join(whole, "timestamp.json")); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = whole
	current = open(t, cfg)
	newClient(t, url, seen, pinned)
}

func TestDamagedRepositoryDoesNotStart(t *testing.T) {
	for name, damage := range map[string]func(cfg *Config) error{
		"root key gone":  func(c *Config) error { return os.RemoveAll(c.KeyDir) },
		"other keys":     func(c *Config) error { other := config(t); open(t, other); c.KeyDir = other.KeyDir; return nil },
		"timestamp cut":  func(c *Config) error { return os.Truncate(filepath.Join(c.Dir, "timestamp.json"), 10) },
		"snapshot gone":  func(c *Config) error { return os.Remove(filepath.Join(c.Dir, "1.snapshot.json")) },
		"targets forged": func(c *Config) error { return forge(filepath.Join(c.Dir, "1.targets.json")) },
		"root gone":      func(c *Config) error { return os.Remove(filepath.Join(c.Dir, "1.root.json")) },
		"all of it gone": func(c *Config) error { return os.RemoveAll(c.Dir) },
		"root of another platform, its record gone": func(c *Config) error {
			other := config(t)
			open(t, other)
			data, err := os.ReadFile(filepath.Join(other.Dir, "1.root.json"))
			return errors.Join(err, os.Remove(filepath.Join(c.KeyDir, recordFile)), os.WriteFile(filepath.Join(c.Dir, "1.root.json"), data, 0o644))
		},
		"root signed again": func(c *Config) error { // the same keys, other bytes: as if it was made again
			data, err := os.ReadFile(filepath.Join(c.Dir, "1.root.json"))
			return errors.Join(err, os.WriteFile(filepath.Join(c.Dir, "1.root.json"), append(data, '\n'), 0o644))
		},
		"root forged": func(c *Config) error { return forge(filepath.Join(c.Dir, "1.root.json")) },
	} {
		cfg := config(t)
		open(t, cfg)
		if err := damage(&cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

// A file of the repository that is damaged is not served, whatever its version.
func TestDamagedFileIsNotServed(t *testing.T) {
	cfg := config(t)
	open(t, cfg)
	cfg.Log = config(t).Log
	s := open(t, cfg) // 2.targets.json replaces 1.targets.json
	url := serve(t, s)
	targets, err := filepath.Glob(filepath.Join(cfg.Dir, "targets", "*"))
	if err != nil || len(targets) < 5 {
		t.Fatalf("got %q, %v", targets, err)
	}
	check := func() (r intact.Report) {
		if err := Scrub(&r, cfg.KeyDir, cfg.Dir); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); r.Damaged != 0 || r.Files < 10 {
		t.Errorf("scrub: got %+v, want no damage", r)
	}
	damaged := []string{"1.targets.json", "1.snapshot.json"}
	for _, path := range targets {
		if sum := filepath.Base(path)[:64]; fmt.Sprintf("%x", sha256.Sum256(s.trustedRoot)) != sum && fmt.Sprintf("%x", sha256.Sum256(s.document)) != sum && fmt.Sprintf("%x", sha256.Sum256(s.signingConfig)) != sum {
			damaged = append(damaged, "targets/"+filepath.Base(path))
		}
	}
	for _, path := range damaged {
		want := get(t, url+"/tuf/"+path, 200)
		if err := os.WriteFile(filepath.Join(cfg.Dir, path), bytes.Replace(want, []byte(`"`), []byte(`'`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := get(t, url+"/tuf/"+path, 200); !bytes.Equal(got, want) {
			t.Errorf("%s: a running service does not serve what it verified", path)
		}
	}
	if r := check(); r.Damaged != len(damaged) {
		t.Errorf("scrub: got %+v, want %d damaged", r, len(damaged))
	}
	url = serve(t, open(t, cfg))
	for _, path := range damaged {
		get(t, url+"/tuf/"+path, 404)
	}
	get(t, url+"/tuf/1.root.json", 200)
	get(t, url+"/tuf/2.targets.json", 200)
}

func forge(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 9`), 1), 0o644)
}

func TestOnlyTheRepositoryIsServed(t *testing.T) {
	s := open(t, config(t))
	url := serve(t, s)
	get(t, url+"/tuf/timestamp.json", 200)
	for _, path := range []string{"", "targets", "targets/", "1.timestamp.json", "../tuf-root.key", "%2e%2e/tuf-root.key", "0.root.json", "2.root.json"} {
		get(t, url+"/tuf/"+path, 404)
	}
}
