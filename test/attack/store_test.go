package attack

import (
	archive "archive/zip"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/colophon-build/colophon/test/await"
)

// module returns a module's zip, in which text can be found, and its digest in go.sum.
func (s *scene) module(text string) (raw []byte, h1 string) {
	s.Helper()
	var b bytes.Buffer
	z := archive.NewWriter(&b)
	w, err := z.CreateHeader(&archive.FileHeader{Name: "world.example/m@v1.0.0/m.go", Method: archive.Store})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	file := filepath.Join(s.TempDir(), "m.zip")
	if err := errors.Join(err, z.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		s.Fatal(err)
	}
	if h1, err = dirhash.HashZip(file, dirhash.Hash1); err != nil {
		s.Fatal(err)
	}
	return b.Bytes(), h1
}

// store puts a file into the store of a platform's gateways, as one that was taken over can.
func (s *scene) store(data, name string, content []byte) {
	s.Helper()
	file := filepath.Join(data, "gateway", name[:2], name)
	var owner syscall.Stat_t
	if err := errors.Join(syscall.Stat(filepath.Join(data, "gateway"), &owner), os.MkdirAll(filepath.Dir(file), 0o700), os.Chown(filepath.Dir(file), int(owner.Uid), int(owner.Gid))); err != nil {
		s.Fatal(err)
	}
	os.Remove(file)
	if err := errors.Join(os.WriteFile(file, content, 0o600), os.Chown(file, int(owner.Uid), int(owner.Gid))); err != nil {
		s.Fatal(err)
	}
}

var _ = register(attack{
	name: "poisoned-module", tries: "take over a gateway, and have the next build of another tenant take other bytes for a module from the store",
	guard: "a gateway takes a module only if the sum of its bytes is the one that go.sum demands, and a process that no room reaches computes sums: platform/builder/gateway compare, platform/builder/sums",
	cuts:  []cut{{"platform/builder/gateway/demand.go", `comparison{met: digest == g.sums[d.SHA256]}`, `comparison{met: true}`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		text, evilText := "good "+rand.Text(), "evil "+rand.Text()
		good, h1 := s.module(text)
		evil, _ := s.module(evilText)
		path := "/" + strings.ToLower(rand.Text()) + "/world.example/m/@v/v1.0.0.zip"
		got := 0
		s.world.page(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				got++
			}
			w.Write(good)
		})
		release := func(name string) {
			s.Helper()
			repo := s.repository(map[string]string{
				"Dockerfile": "FROM scratch\nADD http://world.test" + path + " /fetched\n# " + name + "\n", "go.sum": "world.example/m v1.0.0 " + h1 + "\n",
			})
			s.mustRelease(p, repo, "sums-"+name)
		}
		sums := filepath.Join(p.Data, "sums", "modules")
		release("first")
		await.True(s, sums+" has a sum of "+hexSum(good), func() bool {
			raw, _ := os.ReadFile(sums)
			return bytes.Contains(raw, []byte(hexSum(good)+" "+h1))
		})
		if release("second"); got != 1 || s.inRegistry(p, text) == "" {
			s.Errorf("got %d downloads, want the second build to take the module from the store", got)
		}
		// Now as a gateway's user.
		write := exec.Command("sh", "-c", fmt.Sprintf("echo '%s %s x' >> %s", hexSum(evil), h1, sums))
		write.Dir = "/"
		uid := uint32(p.UserOf("gateway"))
		write.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		said, err := write.CombinedOutput()
		if err == nil {
			return "a gateway's user wrote " + sums, ""
		}
		address := "http://world.test" + path
		note, _ := json.Marshal(map[string]any{"url": address, "sha256": hexSum(evil), "size": len(evil)})
		s.store(p.Data, hexSum(evil), evil)
		s.store(p.Data, hexSum([]byte(address))+".json", note)
		release("third")
		if evidence := s.inRegistry(p, evilText); evidence != "" {
			return "other bytes were released: " + evidence, ""
		}
		if got != 2 {
			s.Errorf("got %d downloads, want a second one after the store was poisoned", got)
		}
		return "", "the module was downloaded again; " + string(bytes.TrimSpace(said))
	},
})
