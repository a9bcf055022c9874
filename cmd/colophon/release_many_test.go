package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
)

// declaring is a platform whose commits declare some images. It releases all but those
// whose names end in "bad", and notes the requests.
type declaring struct {
	names []string
	mu    sync.Mutex
	asked []api.ReleaseRequest
}

func (d *declaring) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	commit := strings.Repeat("c", 40)
	if r.URL.Path == api.PathDeclared {
		json.NewEncoder(w).Encode(api.Event{Declared: &api.Declared{Commit: commit, Images: d.names}})
		return
	}
	req, _, err := api.ReadReleaseRequest(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	d.asked = append(d.asked, *req)
	d.mu.Unlock()
	json.NewEncoder(w).Encode(api.Event{Phase: "build", Step: "1\x1b[2J"})
	switch {
	case strings.HasSuffix(req.Image, "bad"):
		json.NewEncoder(w).Encode(api.Event{Error: &api.Error{Message: "two\nlines", Hint: "mend it"}})
	case strings.HasSuffix(req.Image, "usage"):
		json.NewEncoder(w).Encode(api.Event{Error: &api.Error{Message: "wrong", Kind: api.Usage}})
	default:
		fmt.Fprintf(w, `{"result":{"image":%q,"digest":"sha256:%064d","tags":["v1"],"source":{"uri":%q,"commit":%q},"level":3,"resumed":%[5]v,"unchanged":%[5]v}}`+"\n",
			req.Image, 1, req.Source, commit, strings.HasSuffix(req.Image, "old"))
	}
}

func TestReleaseMany(t *testing.T) {
	for name, tt := range map[string]struct {
		declared []string
		args     []string
		code     int
		released string // names that were asked for, HOST being the platform's
		says     []string
	}{
		"all":                     {[]string{"web", "team/api", "old"}, nil, exitOK, "HOST/old HOST/team/api HOST/web", []string{"released 2 of 3 images; released before: 1", "HOST/web:v1, SLSA Build L3", "HOST/web@sha256:0", "verify each", "team/api │ ", "s build 1"}},
		"nothing to do":           {[]string{"old"}, nil, exitOK, "HOST/old", []string{"nothing to do: all 1 images"}},
		"one, nothing to do":      {[]string{"old"}, []string{"--image", "old"}, exitOK, "HOST/old", []string{"nothing to do: HOST/old@sha256:", "was released before"}},
		"one fails":               {[]string{"web", "bad"}, nil, exitFailure, "HOST/bad HOST/web", []string{"released 1 of 2 images", "HOST/bad: not released", "    two\n    lines\n    hint: mend it", "hint: run the same command again"}},
		"the worst":               {[]string{"usage", "bad", "web"}, nil, exitUsage, "HOST/bad HOST/usage HOST/web", []string{"released 1 of 3"}},
		"elsewhere":               {[]string{"web"}, []string{"--registry", "r.example.com/team/"}, exitOK, "r.example.com/team/web", nil},
		"elsewhere, ambiguous":    {[]string{"web", "team/web"}, []string{"--registry", "r.example.com/team"}, exitUsage, "", []string{`r.example.com/team/web is the image "team/web"`}},
		"one":                     {[]string{"web", "team/api"}, []string{"--image", "team/api"}, exitOK, "HOST/team/api", []string{"released HOST/team/api@sha256:", "verify  colophon verify HOST/team/api:v1 --source https://git.example.com/team/app\n"}},
		"one, with its parameter": {[]string{"web"}, []string{"--image", "web", "--target", "x y", "--build-arg", "A=$b"}, exitOK, "HOST/web", []string{" --target 'x y' --build-arg 'A=$b'\n"}},
		"an unknown one":          {[]string{"web", "team/api"}, []string{"--image", "api"}, exitUsage, "", []string{`no image "api"`, "it has web, team/api"}},
		"one with a registry":     {[]string{"web"}, []string{"--image", "r.example.com/other"}, exitOK, "r.example.com/other", nil},
		"no name in the file":     {[]string{""}, nil, exitUsage, "", []string{"has no name"}},
		"a name for it":           {[]string{""}, []string{"--image", "web"}, exitOK, "HOST/web", nil},
		"no file":                 {nil, nil, exitUsage, "", []string{"the commit has no .colophon.yaml"}},
		"no file, and a name":     {nil, []string{"--image", "web"}, exitOK, "HOST/web", nil},
		"a flag for one":          {[]string{"web"}, []string{"--context", "x"}, exitUsage, "", []string{"--context is for one image"}},
		"a template of many":      {[]string{"web"}, []string{"-o", "template={{.image}}"}, exitUsage, "", []string{"the answer is a list", "{{range .}}{{.image}} {{end}}"}},
		"a template of one":       {[]string{"web"}, []string{"--image", "r.example.com/other", "-o", "template={{.outcome}}"}, exitUsage, "", []string{"no member .outcome", "image, digest, tags"}},
		"a lock for one":          {[]string{"web"}, []string{"--hermetic", "--write-lock", "x"}, exitUsage, "", []string{"--write-lock is for one image"}},
	} {
		for _, format := range []string{"text", "json"} {
			t.Run(name+", "+format, func(t *testing.T) {
				d := &declaring{names: tt.declared}
				srv := httptest.NewServer(d)
				defer srv.Close()
				u, err := url.Parse(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				config := filepath.Join(t.TempDir(), "client.json")
				if err := os.WriteFile(config, []byte(`{"url":"`+srv.URL+`","token":"t","fingerprint":""}`), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("COLOPHON_PLATFORM", config)
				var stdout, stderr bytes.Buffer
				root := newRootCommand()
				root.SetOut(&stdout)
				root.SetErr(&stderr)
				root.SetArgs(append([]string{"release", "https://git.example.com/team/app", "--ref", "v1", "-o", format}, tt.args...))
				if code := execute(t.Context(), root); code != tt.code {
					t.Errorf("got exit code %d, want %d\n%s", code, tt.code, &stderr)
				}
				var released []string
				for _, r := range d.asked {
					released = append(released, strings.Replace(r.Image, u.Host, "HOST", 1))
					if !strings.HasPrefix(r.Image, "r.example.com/other") && r.Commit != strings.Repeat("c", 40) {
						t.Errorf("%s: the request does not name the commit that declares it, but %q", r.Image, r.Commit)
					}
				}
				slices.Sort(released)
				if got := strings.Join(released, " "); got != tt.released {
					t.Errorf("asked for %q, want %q", got, tt.released)
				}
				said := strings.ReplaceAll(stderr.String()+stdout.String(), u.Host, "HOST")
				for _, want := range tt.says {
					if format == "text" && !strings.Contains(said, want) {
						t.Errorf("got %q, want %q", said, want)
					}
				}
				if strings.Contains(said, "\x1b") {
					t.Errorf("a control character reaches the terminal: %q", said)
				}
				if format == "text" || tt.code == exitUsage && len(released) == 0 {
					return
				}
				var many []struct {
					Image  string
					Digest string
					Error  *api.Error
				}
				err = json.Unmarshal(stdout.Bytes(), &many)
				if isMany := !slices.Contains(tt.args, "--image"); isMany != (err == nil) || isMany && len(many) != len(tt.declared) {
					t.Fatalf("got %s, %v", &stdout, err)
				}
				for i, m := range many {
					if !strings.HasSuffix(m.Image, "/"+tt.declared[i]) || (m.Error == nil) != (m.Digest != "") {
						t.Errorf("got %+v for %s", m, tt.declared[i])
					}
				}
			})
		}
	}
}
