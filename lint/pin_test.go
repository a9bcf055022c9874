package lint

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/yamlfile"
	"github.com/colophon-build/colophon/test/gittest"
)

// actionServer is a server with the repository o/action, whose commits are old.
type actionServer struct {
	t    *testing.T
	dir  string
	date string // of commits
}

func newActionServer(t *testing.T) *actionServer {
	s := &actionServer{t, t.TempDir(), "2020-01-01T00:00:00Z"}
	s.git("init", "-q", "-b", "main")
	s.git("config", "uploadpack.allowAnySHA1InWant", "true")
	return s
}

func (s *actionServer) git(args ...string) string {
	s.t.Helper()
	env := []string{"GIT_AUTHOR_NAME=Ann\x1b[31m", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=" + s.date, "GIT_COMMITTER_DATE=" + s.date}
	return gittest.With(s.t, env, filepath.Join(s.dir, "o/action"), args...)
}

// release makes a commit with tags, and returns its id.
func (s *actionServer) release(subject string, tags ...string) string {
	s.t.Helper()
	s.git("commit", "-q", "--allow-empty", "-m", subject)
	for _, tag := range tags {
		s.git("tag", "-f", tag)
	}
	return s.git("rev-parse", "HEAD")
}

// look looks at one step that uses o/action, days after now, with a cache that is kept in file. It
// returns the pin and the step after the update.
func (s *actionServer) look(p Pinner, file, uses string, days int) (Pin, string) {
	s.t.Helper()
	src := "on: push\r\njobs:\r\n  a:\r\n    steps:\r\n    - uses: " + uses + "\r\n"
	tree := newTree(s.t, map[string]string{".github/workflows/a.yml": src})
	known, err := pins.Cache(file)
	if err != nil {
		s.t.Fatal(err)
	}
	p.Resolver = &pins.Resolver{Server: "file://" + s.dir, Known: known}
	p.Now = time.Now().Add(time.Duration(days) * 24 * time.Hour)
	all, err := p.Pins(s.t.Context(), tree)
	if err != nil || len(all) != 1 {
		s.t.Fatalf("got %+v, %v", all, err)
	}
	if err := known.Save(file); err != nil {
		s.t.Fatal(err)
	}
	changes, err := Mend(tree, []finding.Finding{{Edits: all[0].Edits}})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(changes) == 0 {
		return all[0], uses
	}
	after := string(changes[0].After)
	head := src[:strings.Index(src, uses)]
	if !strings.HasPrefix(after, head) || !strings.HasSuffix(after, "\r\n") {
		s.t.Errorf("other bytes have changed: %q", after)
	}
	return all[0], strings.TrimSuffix(strings.TrimPrefix(after, head), "\r\n")
}

const week = 7 * 24 * time.Hour

func TestPinUpdates(t *testing.T) {
	s := newActionServer(t)
	one := s.release("one", "v4.1.0")
	two := s.release("two\x1b[2J", "v4.2.0", "v4")
	three := s.release("three", "v5.0.0")
	cache := filepath.Join(t.TempDir(), "c.json")
	old := "o/action@" + one + " # v4.1.0"
	for _, c := range []struct {
		name  string
		p     Pinner
		uses  string
		days  int
		state PinState
		want  string
	}{
		// The commits say that they are of 2020, and this machine sees them for the first time.
		{"first seen now", Pinner{Update: true, Cooldown: week}, old, 0, PinWaiting, old},
		{"seen for six days", Pinner{Update: true, Cooldown: week}, old, 6, PinWaiting, old},
		{"seen for eight days", Pinner{Update: true, Cooldown: week}, old, 8, PinUpdated, "o/action@" + two + " # v4.2.0"},
		{"no cooldown", Pinner{Update: true}, old, 0, PinUpdated, "o/action@" + two + " # v4.2.0"},
		{"major", Pinner{Update: true, Major: true}, old, 0, PinUpdated, "o/action@" + three + " # v5.0.0"},
		{"no update", Pinner{}, old, 0, PinOutdated, old},
		{"idempotent", Pinner{Update: true}, "o/action@" + two + " # v4.2.0", 0, PinCurrent, "o/action@" + two + " # v4.2.0"},
		{"moving tag in the comment", Pinner{Update: true}, "'o/action@" + one + "' # v4 keep", 0, PinUpdated, "'o/action@" + two + "' # v4.2.0 keep"},
		{"without comment", Pinner{Update: true}, "o/action/sub@" + one, 0, PinUpdated, "o/action/sub@" + two + " # v4.2.0"},
		{"unpinned", Pinner{Update: true}, "o/action@v4", 0, PinUpdated, "o/action@" + two + " # v4.2.0"},
		{"variable", Pinner{Update: true}, "o/action@${{ inputs.a }}", 0, PinVariable, "o/action@${{ inputs.a }}"},
	} {
		pin, got := s.look(c.p, cache, c.uses, c.days)
		if pin.State != c.state || got != c.want {
			t.Errorf("%s: got %s (%s) and %q, want %s and %q", c.name, pin.State, pin.Message, got, c.state, c.want)
		}
		if pin.State == PinUpdated && pin.From != "" {
			last := pin.Changes[len(pin.Changes)-1]
			if last.Commit != two || strings.ContainsRune(last.Author+last.Subject, '\x1b') || !strings.HasPrefix(last.Author, "Ann") {
				t.Errorf("%s: got the changes %+v", c.name, pin.Changes)
			}
		}
	}
	// Without a cache, nothing was seen: the cooldown begins, whatever the commits say.
	if pin, _ := s.look(Pinner{Update: true, Cooldown: week}, filepath.Join(t.TempDir(), "none"), old, 0); pin.State != PinWaiting {
		t.Errorf("got %+v", pin)
	}
}

// A tag of a version that moves is an alarm and no update, whether the pin has the tag or would get it.
func TestPinAlarms(t *testing.T) {
	s := newActionServer(t)
	one := s.release("one", "v4.1.0")
	two := s.release("two", "v4.2.0")
	cache := filepath.Join(t.TempDir(), "c.json")
	uses := "o/action@" + one + " # v4.1.0"
	if pin, _ := s.look(Pinner{Update: true, Cooldown: week}, cache, uses, 0); pin.State != PinWaiting {
		t.Fatalf("got %+v", pin)
	}
	evil := s.release("evil", "v4.2.0")
	fresh(t, cache)
	alarm := func(name string, p Pinner, uses string, days int, state PinState, says string) {
		t.Helper()
		pin, got := s.look(p, cache, uses, days)
		if pin.State != state || !pin.State.Alarm() || got != uses || pin.To != "" || !strings.Contains(pin.Message, says) {
			t.Errorf("%s: got %+v and %q", name, pin, got)
		}
	}
	for range 2 { // an alarm does not end by itself
		alarm("the update's tag", Pinner{Update: true}, uses, 30, PinMoved, two[:12])
	}
	alarm("unpinned", Pinner{Update: true}, "o/action@v4.2.0", 30, PinMoved, evil[:12])
	if pin, _ := s.look(Pinner{Update: true, Cooldown: week}, cache, "o/action@"+one+" # 4.1.0", 0); pin.State != PinMoved || strings.Contains(pin.Message, "is gone") {
		t.Errorf("a comment without v: got %+v", pin) // that v4.2.0 has moved, not that 4.1.0 is gone
	}
	alarm("the pin's tag", Pinner{Update: true}, "o/action@"+two+" # v4.2.0", 0, PinMoved, "points to "+evil[:12])
	s.git("tag", "-d", "v4.1.0")
	fresh(t, cache)
	alarm("no tag", Pinner{Update: true}, uses, 0, PinMoved, "is gone")
	s.git("checkout", "-q", "--detach")
	fork := s.release("of a fork")
	s.git("checkout", "-q", "main")
	s.git("update-ref", "refs/pull/7/head", fork)
	alarm("fork", Pinner{Update: true}, "o/action@"+fork+" # v4.1.0", 0, PinForeign, "no branch or tag")
}

// fresh makes the answers of a cache too old to count, and keeps what was seen.
func fresh(t *testing.T, cache string) {
	t.Helper()
	raw, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.ReplaceAll(string(raw), fmt.Sprintf(`"asked": "%d`, time.Now().Year()), `"asked": "2001`))
	if err := os.WriteFile(cache, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The commits of a server without end, and texts of any length, are bounded.
func TestPinChangesAreBounded(t *testing.T) {
	s := newActionServer(t)
	one := s.release("one", "v1.0.0")
	var stream strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter %s <a@b> 1500000000 +0000\ndata 5001\n%s\n\n", strings.Repeat("n", 3000), strings.Repeat("s", 5000))
		if i == 0 {
			stream.WriteString("from " + one + "\n")
		}
	}
	gittest.In(t, stream.String(), filepath.Join(s.dir, "o/action"), "fast-import", "--quiet")
	s.git("tag", "v1.1.0", "refs/heads/main")
	pin, _ := s.look(Pinner{Update: true}, filepath.Join(t.TempDir(), "c"), "o/action@"+one+" # v1.0.0", 0)
	if pin.State != PinUpdated || len(pin.Changes) != 1000 {
		t.Fatalf("got %s %q with %d commits", pin.State, pin.Message, len(pin.Changes))
	}
	if c := pin.Changes[0]; len(c.Subject) > 210 || len(c.Author) > 210 {
		t.Errorf("got %d and %d bytes", len(c.Subject), len(c.Author))
	}
}

// Releases that say that they are young are not taken, and an older one is; a server with many of
// them is not asked for the history of each.
func TestPinTries(t *testing.T) {
	for young, want := range map[int]PinState{maxTried - 1: PinUpdated, maxTried: PinWaiting} {
		s := newActionServer(t)
		one := s.release("one", "v1.0.0")
		two := s.release("two", "v1.1.0")
		s.date = time.Now().Add(30 * 24 * time.Hour).Format(time.RFC3339)
		for i := range young {
			s.release("young", fmt.Sprintf("v1.2.%d", i))
		}
		cache := filepath.Join(t.TempDir(), "c")
		uses := "o/action@" + one + " # v1.0.0"
		s.look(Pinner{}, cache, uses, 0)
		pin, _ := s.look(Pinner{Update: true, Cooldown: week}, cache, uses, 30)
		if pin.State != want || want == PinUpdated && pin.To != two {
			t.Errorf("%d young releases: got %s to %q, %q", young, pin.State, pin.To, pin.Message)
		}
	}
}

// The tag of an image stays, and its digest is updated when it was seen for long enough.
func TestPinImages(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	image := strings.TrimPrefix(server.URL, "http://") + "/app:v1"
	push := func() string {
		t.Helper()
		img, err := random.Image(16, 1)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest.String()
	}
	old := push()
	now := push()
	cache := filepath.Join(t.TempDir(), "c.json")
	look := func(p Pinner, dockerfile string, days int) (Pin, string) {
		t.Helper()
		tree := newTree(t, map[string]string{"Dockerfile": dockerfile})
		known, err := pins.Cache(cache)
		if err != nil {
			t.Fatal(err)
		}
		p.Resolver = &pins.Resolver{Private: true, Known: known}
		p.Now = time.Now().Add(time.Duration(days) * 24 * time.Hour)
		all, err := p.Pins(t.Context(), tree)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %+v, %v", all, err)
		}
		if err := known.Save(cache); err != nil {
			t.Fatal(err)
		}
		changes, err := Mend(tree, []finding.Finding{{Edits: all[0].Edits}})
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) > 0 {
			dockerfile = string(changes[0].After)
		}
		return all[0], dockerfile
	}
	from := "from  " + image + "@" + old + " as x\n"
	// Pipelines and manifests name images too.
	for file, src := range map[string]string{
		".gitlab-ci.yml": "a: {image: '%s', script: make}\n", "bitbucket-pipelines.yml": "image: '%s'\n", "pipeline.yaml": "apiVersion: tekton.dev/v1\nkind: PipelineRun\nspec: {pipelineRef: {resolver: bundles, params: [{name: kind, value: pipeline}, {name: bundle, value: '%s'}]}}\n",
		"run.yaml": "apiVersion: tekton.dev/v1beta1\nkind: TaskRun\nspec: {taskRef: {name: a, bundle: '%s'}}\n", "task.yaml": "apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: '%s'}]}\n",
		"pod.yaml": "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: '%s'}]}\n", "compose.yaml": "services: {a: {image: '%s'}}\n",
	} {
		tree := newTree(t, map[string]string{file: fmt.Sprintf(src, image)})
		all, err := (&Pinner{Update: true, Resolver: &pins.Resolver{Private: true}}).Pins(t.Context(), tree)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: got %+v, %v", file, all, err)
		}
		changes, err := Mend(tree, []finding.Finding{{Edits: all[0].Edits}})
		if err != nil || len(changes) != 1 || string(changes[0].After) != fmt.Sprintf(src, image+"@"+now) {
			t.Errorf("%s: got %+v, %v", file, changes, err)
		}
	}
	for _, c := range []struct {
		name  string
		p     Pinner
		src   string
		days  int
		state PinState
		want  string
	}{
		{"first seen now", Pinner{Update: true, Cooldown: week}, from, 0, PinWaiting, from},
		{"seen for eight days", Pinner{Update: true, Cooldown: week}, from, 8, PinUpdated, strings.Replace(from, old, now, 1)},
		{"no update", Pinner{}, from, 0, PinOutdated, from},
		{"idempotent", Pinner{Update: true}, strings.Replace(from, old, now, 1), 0, PinCurrent, strings.Replace(from, old, now, 1)},
		{"unpinned", Pinner{Update: true, Cooldown: week}, "FROM " + image, 0, PinUpdated, "FROM " + image + "@" + now},
		{"variable", Pinner{Update: true}, "ARG V=v1\nFROM " + strings.Replace(image, ":v1", ":$V", 1), 0, PinVariable, "ARG V=v1\nFROM " + strings.Replace(image, ":v1", ":$V", 1)},
		{"unknown", Pinner{Update: true}, "FROM " + image + "2@" + old, 0, PinUndecided, "FROM " + image + "2@" + old},
	} {
		if pin, got := look(c.p, c.src, c.days); pin.State != c.state || got != c.want {
			t.Errorf("%s: got %s (%s) and %q, want %s and %q", c.name, pin.State, pin.Message, got, c.state, c.want)
		}
	}
}

// newTree returns a tree of files.
func newTree(t *testing.T, files map[string]string) *finding.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := finding.OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// TestReaderFails: a reader that panics, or what it read, makes one pin undecided, and the others are still seen.
func TestReaderFails(t *testing.T) {
	before := pipelines
	t.Cleanup(func() { pipelines = before })
	for what, images := range map[string]func(*finding.File) ([]yamlfile.Text, error){
		"the reader": func(*finding.File) ([]yamlfile.Text, error) { panic("out of range") },
		"its text":   func(*finding.File) ([]yamlfile.Text, error) { return []yamlfile.Text{{}}, nil },
	} {
		pipelines = append(slices.Clone(before), struct {
			wants  func(path string) bool
			images func(*finding.File) ([]yamlfile.Text, error)
		}{func(path string) bool { return path == "hostile.yaml" }, images})
		files := map[string]string{"hostile.yaml": "a: b\n", "Dockerfile": "FROM nginx:1\n"}
		all, err := (&Pinner{Resolver: &pins.Resolver{Offline: true}}).Pins(t.Context(), newTree(t, files))
		if err != nil || len(all) != 2 || all[1].File != "hostile.yaml" || all[1].State != PinUndecided || !strings.Contains(all[1].Message, "the reader failed") {
			t.Errorf("%s: got %+v, %v", what, all, err)
		}
	}
}
