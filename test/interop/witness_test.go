package interop

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	_ "modernc.org/sqlite"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

// ourWitness starts colophond's witness of a log, and returns its URL and keys.
func ourWitness(t *testing.T, name string, log note.Verifier) (string, []tlog.WitnessKey) {
	t.Helper()
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: name, Logs: []note.Verifier{log}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(w.Handler())
	t.Cleanup(func() { s.Close(); _ = w.Close() })
	return s.URL, w.Keys()
}

// TestTesseraAsksOurWitness: a log on Tessera publishes no checkpoint without its witness.
func TestTesseraAsksOurWitness(t *testing.T) {
	l := logtest.New("log.example.com", 0) // only its key
	url, keys := ourWitness(t, "witness.example/w", l.Verifier())
	group, err := tessera.NewWitnessGroupFromPolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", keys[0], url))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tlog.NewSigner(l.Origin, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	driver, err := posix.New(t.Context(), posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(t.Context(), driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).WithBatching(1, time.Millisecond).
		WithWitnesses(group, &tessera.WitnessOptions{Timeout: 10 * time.Second}))
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(context.Background())
	published := tessera.NewPublicationAwaiter(t.Context(), reader.ReadCheckpoint, 20*time.Millisecond)
	for i := range 3 {
		_, signed, err := published.Await(t.Context(), appender.Add(t.Context(), tessera.NewEntry(fmt.Appendf(nil, "entry %d", i))))
		if err != nil {
			t.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(signed, l.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		if all, err := tlog.Cosignatures(signed, keys, time.Now()); err != nil || len(all) != 1 {
			t.Errorf("%d entries: got %v, %v", cp.Size, all, err)
		}
	}
}

// litewitness starts filippo.io/torchwood's witness of a log, with its key in an agent.
func litewitness(t *testing.T, l *logtest.Log) (url string, key tlog.WitnessKey) {
	t.Helper()
	program := harness.Bin(t, "litewitness")
	dir := t.TempDir()
	private := logtest.Key("litewitness")
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, conn) }()
		}
	}()
	public, err := ssh.NewPublicKey(private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	root := sha256.Sum256(nil)
	for _, statement := range []string{
		"CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)",
		"CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))",
		fmt.Sprintf("INSERT INTO log VALUES ('%s', 0, '%s')", l.Origin, base64.StdEncoding.EncodeToString(root[:])),
		fmt.Sprintf("INSERT INTO key VALUES ('%s', '%s')", l.Origin, l.VKey()),
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	address := freeport.Address(t)
	cmd := exec.CommandContext(t.Context(), program, "-name", "lite.example/w", "-db", filepath.Join(dir, "db"), "-ssh-agent", socket, "-listen", address, "-key", ssh.FingerprintSHA256(public))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	await.True(t, "the witness listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	c, err := tlog.NewEd25519Cosigner("lite.example/w", private)
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address, c.Key
}

// TestLitewitness: our client gets cosignatures of a stock witness, and both witnesses refuse the
// same.
func TestLitewitness(t *testing.T) {
	l := logtest.New("log.example.com", 300)
	url, key := litewitness(t, l)
	p, err := tlog.ParseWitnessPolicy(fmt.Appendf(nil, "witness lite %s %s\nquorum lite\n", key, url))
	if err != nil {
		t.Fatal(err)
	}
	s, err := witnesses.New(witnesses.Config{Policy: p, Name: "log"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int64{1, 2, 256, 300} {
		cp := l.At(size)
		s.Offer(witnesses.Offer{Checkpoint: cp, Signed: l.Sign(cp), Source: l})
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		c, ok := s.Await(ctx, size)
		cancel()
		if !ok || !c.Quorum || c.Size != size {
			text, _ := s.Problem()
			t.Fatalf("%d entries: no cosignature: %s", size, text)
		}
	}
	ours, _ := ourWitness(t, "witness.example/w", l.Verifier())
	if _, err := (&protocol.Client{URL: ours, HTTP: http.DefaultClient, Keys: []tlog.WitnessKey{logtest.Cosigner(t, "x").Key}}).Add(t.Context(), l.At(300), l.Signed(300), l); err == nil {
		t.Error("a cosignature by a key that is not ours")
	}
	fork := l.Fork(100, 400)
	stranger := logtest.New(l.Origin, 400)
	stranger.Key = logtest.Key("stranger")
	proof := func(l *logtest.Log, old, size int64) []byte {
		hashes, err := tlog.Consistency(t.Context(), l, old, l.At(size))
		if err != nil {
			t.Fatal(err)
		}
		return protocol.Request{Old: old, Proof: hashes, Checkpoint: l.Signed(size)}.Marshal()
	}
	for name, body := range map[string][]byte{
		"roll back":      proof(l, 2, 256),
		"fork":           proof(fork, 300, 400),
		"no proof":       protocol.Request{Old: 300, Checkpoint: fork.Signed(400)}.Marshal(),
		"stranger":       proof(stranger, 300, 400),
		"older than old": protocol.Request{Old: 300, Checkpoint: l.Signed(200)}.Marshal(),
		"malformed":      []byte("hello"),
	} {
		var codes []int
		for _, u := range []string{url, ours} {
			resp, err := http.Post(u+protocol.PathAdd, "", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			codes = append(codes, resp.StatusCode)
		}
		if codes[0] != codes[1] {
			t.Errorf("%s: litewitness answers %d, ours %d", name, codes[0], codes[1])
		}
	}
}

// TestWitnesses: a platform whose log has two witnesses, colophond's own program among them. A release
// is accepted by stock cosign, and by a policy that demands both.
func TestWitnesses(t *testing.T) {
	dir := t.TempDir()
	// The log's key exists only when the platform has started: the witnesses start then, and the
	// platform reaches them at addresses that are known before.
	addresses := [2]string{freeport.Address(t), freeport.Address(t)}
	colophond := harness.Bin(t, "colophond")
	var started []*exec.Cmd
	start := func(i int, log string) tlog.WitnessKey {
		config := filepath.Join(dir, fmt.Sprintf("w%d.yaml", i))
		text := fmt.Sprintf("name: w%d.example/w\ndir: %s\nlisten: %s\nhealth: %s\nlogs: [%q]\n", i, filepath.Join(dir, fmt.Sprintf("w%d", i)), addresses[i], freeport.Address(t), log)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), colophond, "witness", "--config", config)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		started = append(started, cmd)
		pub := filepath.Join(dir, fmt.Sprintf("w%d", i), "cosigner.pub")
		var raw []byte
		await.True(t, "the witness makes a key", func() bool {
			var err error
			raw, err = os.ReadFile(pub)
			return err == nil
		})
		k, err := tlog.ParseWitnessKey(strings.SplitN(string(raw), "\n", 2)[0])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	t.Cleanup(func() {
		for _, cmd := range started {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	// A first start, for another log, makes the keys.
	other := logtest.New("other.example.com", 0).VKey()
	var keys []string
	var policy strings.Builder
	for i := range addresses {
		k := start(i, other)
		keys = append(keys, k.String())
		fmt.Fprintf(&policy, "witness w%d %s http://%s\n", i, k, addresses[i])
	}
	for _, cmd := range started {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	started = nil
	policy.WriteString("group both all w0 w1\nquorum both\n")
	file := filepath.Join(dir, "witnesses")
	if err := os.WriteFile(file, []byte(policy.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, "--config", harness.Config(t, map[string]any{"log": map[string]any{"witnesses": file, "required": true}}))
	p.Trust()
	var trusted struct {
		Tlogs []struct {
			PublicKey struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"publicKey"`
		} `json:"tlogs"`
	}
	if err := json.Unmarshal(p.Get("/trusted_root.json"), &trusted); err != nil || len(trusted.Tlogs) != 1 {
		t.Fatalf("got %v, %v", trusted, err)
	}
	log := logKey(t, trusted.Tlogs[0].PublicKey.RawBytes)
	for i := range addresses {
		start(i, log)
	}
	image := p.Addr + "/team/app"
	out, err := p.Colophon(t.Context(), "release", harness.GoRepo(t), "--ref", "v1.0.0", "--image", image, "--json").Output()
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig()}
	b.root = filepath.Join(b.home, "trusted_root.json")
	if err := os.WriteFile(b.root, p.Get("/trusted_root.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run(t, "cosign", "verify", "--trusted-root", b.root, "--certificate-identity", r.Builder, "--certificate-oidc-issuer", p.URL, image+":v1.0.0")
	stranger := logtest.Cosigner(t, "stranger.example/w").Key.String()
	for name, test := range map[string]struct {
		demand []string
		code   int
	}{"both": {keys, 0}, "one of them and a stranger": {[]string{keys[0], stranger}, 3}} {
		demand, err := json.Marshal(test.demand)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(path, fmt.Appendf(nil, `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: witnessed}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "**"}]
      log: {witnesses: 2, keys: %s}
      accept: [{built: {source: any, recipe: {any: {}}}}]
`, demand), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := p.Colophon(t.Context(), "verify", image+":v1.0.0", "--policy", path)
		said, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != test.code {
			t.Errorf("%s: got %v\n%s", name, err, said)
		}
		if test.code == 0 && !strings.Contains(string(said), "cosigned by w0.example/w, w1.example/w") {
			t.Errorf("%s: verify does not name the witnesses:\n%s", name, said)
		}
	}
}

// logKey returns the verifier key of a platform's log.
func logKey(t *testing.T, spki []byte) string {
	t.Helper()
	key := ed25519.PublicKey(spki[len(spki)-ed25519.PublicKeySize:])
	vkey, err := tlog.FormatLogKey("127.0.0.1", key)
	if err != nil {
		t.Fatal(hex.EncodeToString(spki), err)
	}
	return vkey
}
