package crash

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// killsVar is the environment variable with the number of kills of TestKillLoop.
const killsVar = "COLOPHON_KILLS"

// victims are what the loop kills: the whole platform, half of the time, or one role.
var victims = []string{"", "", "", "", "trust", "registry", "attestor", "builder", "api", "rooms"}

// TestKillLoop kills the platform, or one of its roles, at random moments during
// releases, pushes and appends, COLOPHON_KILLS times. Clients repeat what failed.
// Afterwards nothing that was acknowledged is lost, every tag proves itself, and no
// release is half finished. It prints what was acknowledged, kept and finished. An
// interrupt (SIGINT) ends the kills early; what was done is still checked.
func TestKillLoop(t *testing.T) {
	kills, _ := strconv.Atoi(os.Getenv(killsVar))
	if kills == 0 {
		t.Skipf("NOT ASKED FOR: runs only by make crash, which sets %s", killsVar)
	}
	l := newLoop(t)
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for n := range 2 {
		workers.Go(func() { l.release(fmt.Sprint("r", n), stop) })
	}
	workers.Go(func() { l.pushes(stop) })
	workers.Go(func() { l.appends(stop) })
	ctx, done := signal.NotifyContext(t.Context(), os.Interrupt)
	defer done()
	count := 0
	for ; count < kills && !t.Failed(); count++ {
		// At any moment a kill is as likely as at any other. Some come at once, and some so
		// late that a slow release ends before.
		select {
		case <-time.After(time.Duration(rand.ExpFloat64() * 1.5 * float64(l.calm))):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		if err := l.kill(); err != nil {
			t.Error(err)
		}
		if count%20 == 19 {
			fmt.Printf("%d kills: %s\n", count+1, l)
		}
	}
	close(stop)
	workers.Wait()
	l.check()
	fmt.Printf("%d kills, something acknowledged was lost: %t; %s\n", count, t.Failed(), l)
}

// loop is the platform and what its clients did.
type loop struct {
	*testing.T
	p     *harness.Platform
	repos []string
	key   *ecdsa.PrivateKey
	calm  time.Duration // how long a release takes if nothing is killed

	mu       sync.Mutex
	asked    int               // releases, without repetitions
	hit      int               // releases that a kill interrupted at least once
	released map[string]string // digest by image, acknowledged
	repo     map[string]string // by image
	byItself int               // releases whose tag was there before the client asked again
	blobs    map[string]bool   // acknowledged, by digest
	blobsTry int
	entries  map[string]string // log index by request, acknowledged
	appended int
}

// String returns the counts.
func (l *loop) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("releases: %d asked, %d interrupted by a kill, %d acknowledged, %d finished by the platform before the client asked again; blobs: %d of %d pushes acknowledged; log entries: %d of %d appends acknowledged",
		l.asked, l.hit, len(l.released), l.byItself, len(l.blobs), l.blobsTry, len(l.entries), l.appended)
}

func newLoop(t *testing.T) *loop {
	l := &loop{T: t, released: map[string]string{}, repo: map[string]string{}, blobs: map[string]bool{}, entries: map[string]string{}}
	if os.Geteuid() == 0 {
		dir := filepath.Join(t.TempDir(), "app")
		harness.Write(t, dir, map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
		harness.Commit(t, dir, "v1.0.0")
		l.repos = append(l.repos, dir)
	}
	l.repos = append(l.repos, harness.GoRepo(t))
	l.p = harness.Start(t)
	l.p.Trust()
	var err error
	if l.key, err = ecdsa.GenerateKey(elliptic.P256(), crand.Reader); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the first fills the caches of compilers
		began := time.Now()
		for n, repo := range l.repos {
			release(t, l.p, repo, fmt.Sprintf("warm-%d-%d", round, n))
		}
		l.calm = time.Since(began) / time.Duration(len(l.repos))
	}
	fmt.Printf("a release takes %s\n", l.calm.Round(time.Millisecond))
	return l
}

// kill kills the platform or one role at once, and waits until all roles answer.
func (l *loop) kill() error {
	role := victims[rand.IntN(len(victims))]
	pid := 0
	if role != "" {
		pid = l.p.Role(role)
	}
	if pid == 0 { // also if that role is just being restarted
		l.p.Kill()
		if err := l.p.TryUp(2 * time.Minute); err != nil {
			return fmt.Errorf("the platform does not start again: %w", err)
		}
		return nil
	}
	syscall.Kill(pid, syscall.SIGKILL)
	deadline := time.Now().Add(2 * time.Minute)
	for !l.ready() {
		if time.Now().After(deadline) {
			return fmt.Errorf("the platform does not recover from a kill of %s", role)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func (l *loop) ready() bool {
	resp, err := http.Get(l.p.URL + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// release releases one image after the other, each until the platform acknowledges it.
func (l *loop) release(name string, stop chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		image, repo := fmt.Sprintf("%s-%d", name, n), l.repos[rand.IntN(len(l.repos))]
		l.mu.Lock()
		l.asked++
		l.repo[image] = repo
		l.mu.Unlock()
		for try := 0; ; try++ {
			if try == 1 {
				l.mu.Lock()
				l.hit++
				l.mu.Unlock()
			}
			if try > 0 && l.tagged(repo, image) {
				l.mu.Lock()
				l.byItself++
				l.mu.Unlock()
			}
			digest, err := l.tryRelease(repo, image)
			if err == nil {
				l.mu.Lock()
				l.released[image] = digest
				l.mu.Unlock()
				break
			}
			if try == 1000 {
				l.Errorf("%s was never released: %v", image, err)
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}

func (l *loop) tryRelease(repo, image string) (digest string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := l.p.Colophon(ctx, "release", repo, "--ref", "v1.0.0", "--image", l.p.Addr+"/"+image, "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	var r api.Release
	err = json.Unmarshal(out, &r)
	return r.Digest, err
}

// tagged reports whether the last tag of a release exists.
func (l *loop) tagged(repo, image string) bool {
	tags := tagsOf(l, repo)
	resp, err := http.Get(l.p.URL + "/v2/" + image + "/manifests/" + tags[len(tags)-1])
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// pushes uploads blobs, each once.
func (l *loop) pushes(stop chan struct{}) {
	token := l.p.Token("client.json")
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		blob := make([]byte, 64<<10)
		crand.Read(blob)
		sum := sha256.Sum256(blob)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		req, err := http.NewRequest(http.MethodPost, l.p.URL+"/v2/blobs/blobs/uploads/?digest="+digest, bytes.NewReader(blob))
		if err != nil {
			l.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/octet-stream")
		l.mu.Lock()
		l.blobsTry++
		l.mu.Unlock()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusCreated {
			l.mu.Lock()
			l.blobs[digest] = true
			l.mu.Unlock()
		}
	}
}

// appends adds entries to the log, each once.
func (l *loop) appends(stop chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		body := l.entry(fmt.Sprint("entry ", n))
		l.mu.Lock()
		l.appended++
		l.mu.Unlock()
		if index, err := l.add(body); err == nil {
			l.mu.Lock()
			l.entries[body] = index
			l.mu.Unlock()
		}
	}
}

// entry returns a request to log a signature (Rekor v2, hashedrekord).
func (l *loop) entry(text string) string {
	digest := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(crand.Reader, l.key, digest[:])
	if err != nil {
		l.Error(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		l.Error(err)
	}
	body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{"digest": digest[:], "signature": map[string]any{
		"content": sig, "verifier": map[string]any{"publicKey": map[string]any{"rawBytes": spki}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"},
	}}})
	if err != nil {
		l.Error(err)
	}
	return string(body)
}

// add sends a request to the log, and returns the index in its answer.
func (l *loop) add(body string) (index string, err error) {
	resp, err := http.Post(l.p.URL+"/api/v2/log/entries", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct{ LogIndex string }
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, data)
	}
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	return answer.LogIndex, err
}

// check compares what was acknowledged with what is there.
func (l *loop) check() {
	l.p.Kill()
	l.p.Up()
	deadline := time.Now().Add(2 * time.Minute)
	for _, dir := range []string{"queue", "work"} { // the platform finishes what it has begun
		for {
			left, err := os.ReadDir(filepath.Join(l.p.Data, "attestor", dir))
			if err == nil && len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				l.Errorf("left in %s: %v, %v", dir, left, err)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	digests := map[string]string{}
	for image, digest := range l.released {
		repo := l.repo[image]
		verify(l.T, l.p, repo, image+":v1.0.0")
		verify(l.T, l.p, repo, image+"@"+digest)
		l.p.OneOfEach(l, image, digest)
		if other := digests[repo]; other != "" && other != digest {
			l.Errorf("%s: got digest %s, another release of the same commit has %s", image, digest, other)
		}
		digests[repo] = digest
	}
	for image, repo := range l.repo { // also those that nobody acknowledged
		tagsProve(l.T, l.p, repo, image)
	}
	for digest := range l.blobs {
		if sum := sha256.Sum256(l.p.Get("/v2/blobs/blobs/" + digest)); digest != "sha256:"+hex.EncodeToString(sum[:]) {
			l.Errorf("blob %s: got bytes of digest %x", digest, sum)
		}
	}
	for body, index := range l.entries {
		if got, err := l.add(body); err != nil || got != index {
			l.Errorf("log entry: got index %s, %v, want %s, which was acknowledged", got, err, index)
		}
	}
}
