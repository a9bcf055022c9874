package registry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/test/needs"
)

const (
	envServe = "REGISTRY_TEST_SERVE" // the directory that the child serves
	envFull  = "REGISTRY_TEST_FULL"  // set in the child that has a small disk
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envServe); dir != "" {
		reg, err := New(Config{URL: "http://registry.test", Dir: dir, Authorize: roles})
		if err == nil {
			var l net.Listener
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
				fmt.Println(l.Addr())
				err = http.Serve(l, reg)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve runs a registry as a process of its own.
func serve(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envServe+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the registry did not start: %v", err)
	}
	return "http://" + strings.TrimSpace(line), kill
}

// The registry is killed repeatedly during pushes. Afterwards everything that it acknowledged
// is there, everything visible is complete, and nothing else uses disk space.
func TestKilledAmidPushes(t *testing.T) {
	dir := t.TempDir()
	p := &pushes{acks: map[ack]bool{}, content: map[string][]byte{}}
	for round := range 5 {
		url, kill := serve(t, dir)
		c := &client{t: t, url: url, token: "pusher"}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() { p.push(c, fmt.Sprintf("%d-%d", round, worker), stop) })
		}
		for n := p.count.Load(); p.count.Load() < n+60; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		kill()
		close(stop)
		wg.Wait()
	}

	c := start(t, Config{Dir: dir})
	for a := range p.acks {
		if r := c.do("GET", a.path, nil); r.StatusCode != 200 || !bytes.Equal(r.body, p.content[a.digest]) {
			t.Errorf("%s was acknowledged, now got %d", a.path, r.StatusCode)
		}
	}
	seen := 0
	for i := range 3 {
		seen += c.whole(fmt.Sprintf("/v2/repo%d/x", i))
	}
	if e, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(e) != 0 {
		t.Errorf("got %d left-over files (%v), want none", len(e), err)
	}
	if len(p.acks) < 100 || seen < 30 {
		t.Errorf("only %d pushes were acknowledged and %d tags seen: this proved little", len(p.acks), seen)
	}
	t.Logf("%d acknowledged, %d tags", len(p.acks), seen)
}

// pushes are what clients pushed and what the registry acknowledged of it.
type pushes struct {
	mu      sync.Mutex
	acks    map[ack]bool
	content map[string][]byte // by digest
	count   atomic.Int64
}

type ack struct{ path, digest string }

// push pushes image after image until stop is closed or the registry is killed.
func (p *pushes) push(c *client, name string, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		seed := fmt.Sprintf("%s-%d", name, i)
		base := fmt.Sprintf("/v2/repo%d/x", i%3)
		config, layer := []byte("{}"), bytes.Repeat([]byte(seed), 20_000)
		raw := marshal(map[string]any{
			"schemaVersion": 2, "mediaType": typeManifest,
			"config":  desc("application/vnd.oci.empty.v1+json", "sha256", config),
			"layers":  []any{desc("application/octet-stream", "sha256", layer)},
			"subject": desc(typeManifest, "sha256", []byte("subject")),
		})
		blobs := base + "/blobs/"
		for _, step := range []struct {
			method, path string
			body         []byte
			stored       string
		}{
			{"POST", blobs + "uploads/?digest=" + sum("sha256", config), config, blobs + sum("sha256", config)},
			{"POST", blobs + "uploads/?digest=" + sum("sha256", layer), layer, blobs + sum("sha256", layer)},
			{"PUT", base + "/manifests/t" + seed, raw, base + "/manifests/t" + seed},
		} {
			digest := sum("sha256", step.body)
			p.mu.Lock()
			p.content[digest] = step.body
			p.mu.Unlock()
			r, err := c.try(step.method, step.path, step.body)
			if err != nil {
				return // killed
			}
			if r.StatusCode != 201 {
				c.t.Errorf("%s %s: got %d %s", step.method, step.path, r.StatusCode, r.body)
				return
			}
			p.mu.Lock()
			p.acks[ack{step.stored, digest}] = true
			p.mu.Unlock()
			p.count.Add(1)
		}
	}
}

// whole checks everything that the tags of a repository lead to, and returns their number.
func (c *client) whole(repo string) (tags int) {
	c.t.Helper()
	var l struct{ Tags []string }
	json.Unmarshal(c.want(200, "GET", repo+"/tags/list", nil).body, &l)
	listed := map[string]bool{}
	refs, _ := c.referrers(repo + "/referrers/" + sum("sha256", []byte("subject")))
	for _, d := range refs.Manifests {
		listed[d.Digest] = true
	}
	for _, tag := range l.Tags {
		raw := c.want(200, "GET", repo+"/manifests/"+tag, nil).body
		var m manifestFile
		if err := json.Unmarshal(raw, &m); err != nil {
			c.t.Fatal(err)
		}
		if !listed[sum("sha256", raw)] {
			c.t.Errorf("%s:%s is not among the referrers of its subject", repo, tag)
		}
		for _, b := range append(m.Layers, *m.Config) {
			if got := c.want(200, "GET", repo+"/blobs/"+b.Digest, nil).body; sum("sha256", got) != b.Digest {
				c.t.Errorf("%s: blob %s has other bytes", repo, b.Digest)
			}
		}
	}
	return len(l.Tags)
}

// On a full disk a push fails cleanly, leaves nothing, and the registry goes
// on. The test runs itself again where it can mount a small disk.
func TestDiskFull(t *testing.T) {
	if os.Getenv(envFull) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		cmd.Env = append(os.Environ(), envFull+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if len(out) == 0 && err != nil {
			needs.Missing(t, "no mount namespace can be made here: %v", err)
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestDiskFull")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	c := start(t, Config{Dir: filepath.Join(dir, "registry")})
	raw := c.image("a", "sha256", "x", nil)

	big := bytes.Repeat([]byte("x"), 3<<20)
	c.want(507, "POST", "/v2/a/blobs/uploads/?digest="+sum("sha256", big), big)
	loc := c.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	if r := c.want(507, "PATCH", loc, big); r.code() != distribution.CodeUnknown {
		t.Errorf("got %s", r.body)
	}
	c.want(404, "GET", loc, nil)
	c.want(404, "HEAD", "/v2/a/blobs/"+sum("sha256", big), nil)

	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1 << 16, 1} { // to the last byte
		for {
			if _, err := fill.Write(big[:n]); err != nil {
				break
			}
		}
	}
	fill.Close()
	c.want(507, "PUT", "/v2/a/manifests/t", raw, "Content-Type", typeManifest)
	c.want(404, "GET", "/v2/a/manifests/t", nil)
	c.want(404, "GET", "/v2/a/manifests/"+sum("sha256", raw), nil)
	c.want(200, "GET", "/v2/a/blobs/"+sum("sha256", []byte("layer x")), nil)
	if e, _ := os.ReadDir(c.reg.store.path("tmp")); len(e) != 0 {
		t.Errorf("got %d left-over files, want none", len(e))
	}
	os.Remove(fill.Name())
	c.want(201, "PUT", "/v2/a/manifests/t", raw, "Content-Type", typeManifest)
}
