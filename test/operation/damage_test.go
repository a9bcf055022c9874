package operation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

// scrub runs colophond scrub on the data directory of a platform.
func scrub(t *testing.T, p *harness.Platform) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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
}
