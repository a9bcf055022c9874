package operation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// scrub runs colophond scrub on the data directory of a platform.
func scrub(t *testing.T, p *harness.Platform) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Bin(t, "colophond"), "scrub", "--data", p.Data)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// pushBlob pushes a blob with the client's token.
func pushBlob(t *testing.T, p *harness.Platform, repo string, content []byte) (digest string) {
	t.Helper()
	digest = fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	req, err := http.NewRequest(http.MethodPost, p.URL+"/v2/"+repo+"/blobs/uploads/?digest="+digest, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("push", p.Token("client.json"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing a blob: got %s, want 201", resp.Status)
	}
	return digest
}

// flip flips one bit in the middle of a file, in place.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Scrub names what a bad disk changed below a running platform, and is content when it was
// mended.
func TestScrub(t *testing.T) {
	p := harness.Start(t)
	digest := pushBlob(t, p, "app", []byte("content"))
	if out, code := scrub(t, p); code != 0 || !strings.Contains(out, "0 damaged") {
		t.Fatalf("scrub of a new platform: exit %d\n%s", code, out)
	}
	flip(t, filepath.Join(p.Data, "registry/blobs", strings.Replace(digest, ":", "/", 1)))
	out, code := scrub(t, p)
	if code != 1 || !strings.Contains(out, "DAMAGED registry/") || !strings.Contains(out, digest) {
		t.Errorf("scrub with a damaged blob: exit %d\n%s", code, out)
	}
	pushBlob(t, p, "app", []byte("content"))
	if out, code := scrub(t, p); code != 0 {
		t.Errorf("scrub after the blob was pushed again: exit %d\n%s", code, out)
	}
	for _, path := range []string{"ct/checkpoint", "log/tiles/checkpoint", "trust/tuf/1.snapshot.json"} {
		flip(t, filepath.Join(p.Data, path))
		if out, code := scrub(t, p); code != 1 || !strings.Contains(out, "DAMAGED "+path) {
			t.Errorf("scrub with a damaged %s: exit %d\n%s", path, code, out)
		}
		flip(t, filepath.Join(p.Data, path))
	}
	if err := p.Stop(); err != nil { // so that all of the audit ledger is on its disk for good
		t.Fatal(err)
	}
	p.Up()
	tiles, err := filepath.Glob(filepath.Join(p.Data, "audit/ledger/tile/0/000.p/*"))
	if err != nil || len(tiles) == 0 {
		t.Fatalf("the tiles of the audit ledger: %v, %v", tiles, err)
	}
	for _, tile := range tiles {
		flip(t, tile)
	}
	if out, code := scrub(t, p); code != 1 || !strings.Contains(out, "DAMAGED audit/ledger/tile/0/000.p/") {
		t.Errorf("scrub with a damaged audit ledger: exit %d\n%s", code, out)
	}
	for _, tile := range tiles {
		flip(t, tile)
	}
	if out, code := scrub(t, p); code != 0 || !strings.Contains(out, "audit ledger: ") {
		t.Errorf("scrub in the end: exit %d\n%s", code, out)
	}
}

// On a full disk /readyz and the log say what each role can no longer do, what was stored can
// still be read, and everything works again when there is space.
func TestFullDisk(t *testing.T) {
	needsRoot(t)
	p := harness.Reserve(t)
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m,mode=0755"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { p.Kill(); syscall.Unmount(disk, syscall.MNT_DETACH) })
	p.Data = filepath.Join(disk, "data")
	p.Args = []string{"--config", harness.Config(t, nil)}
	p.Up()
	digest := pushBlob(t, p, "app", []byte("content"))
	eventually(t, "the platform is ready", func() bool { return ready(p) })

	full, err := os.Create(filepath.Join(disk, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil {
		_, err = full.Write(make([]byte, 1<<16))
	}
	for _, want := range []string{
		"trust: cannot write to its disk, so nothing can be signed or logged", "registry: cannot write to its disk, so images and proofs cannot be pushed",
		"builder: cannot write to its disk, so Go programs cannot be built", "attestor: cannot write to its disk, so releases fail", "no space left on device",
	} {
		eventually(t, "/readyz says "+want, func() bool {
			resp, err := http.Get(p.URL + "/readyz")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), want)
		})
	}
	if got := string(p.Get("/v2/app/blobs/" + digest)); got != "content" {
		t.Errorf("pulling on a full disk: got %q, want the blob", got)
	}
	p.Get("/api/v2/checkpoint")
	if err := os.Remove(full.Name()); err != nil {
		t.Fatal(err)
	}
	full.Close()
	eventually(t, "the platform is ready again", func() bool { return ready(p) })
	pushBlob(t, p, "app", []byte("more"))
	if log := p.Log.String(); strings.Count(log, "the role cannot write to its disk") < 4 || !strings.Contains(log, "can write to its disk again") {
		t.Errorf("got the log %s, want a line of each role", log)
	}
}
