package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

// say runs one command and returns what it prints.
func (s *stage) say(code int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	cmd := newRootCommand()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if got := execute(context.Background(), cmd); got != code {
		s.t.Fatalf("%v: got exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// TestAnswersAreOnStandardOutput: the answer of each command is on standard output, in
// every form, and nothing else is.
func TestAnswersAreOnStandardOutput(t *testing.T) {
	s := newStage(t)
	verify := func(args ...string) []string {
		return append([]string{"verify", s.image, "--skip-source", "--source", "git.example.com/team/app"}, args...)
	}
	bad := s.unproven("team/bare", "v1")
	empty, said := s.say(exitOK, "trust", "list")
	if empty != "" || !strings.Contains(said, "no trust root yet") {
		t.Errorf("trust list: got %q and %q", empty, said)
	}
	out, _ := s.say(exitOK, "trust", "add", s.file("root.json", s.p.Document()), "--yes")
	if out != "trusted\n" {
		t.Errorf("trust add: got %q", out)
	}

	out, said = s.say(exitOK, verify()...)
	if !strings.HasPrefix(out, s.image+"\nsha256:") || !strings.HasSuffix(out, "\naccepted\n") || said != "" {
		t.Errorf("verify: got %q and %q", out, said)
	}
	out, said = s.say(exitRejected, verify("--ref", "v9")...)
	if !strings.Contains(out, "✗ provenance") || !strings.HasSuffix(out, "\nrejected\n") || said != "" {
		t.Errorf("rejected: got %q and %q", out, said)
	}
	asJSON, _ := s.say(exitOK, verify("-o", "json")...)
	if short, _ := s.say(exitOK, verify("--json")...); short != asJSON {
		t.Errorf("--json: got %q, want %q", short, asJSON)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(asJSON), &v); err != nil {
		t.Fatal(err)
	}
	out, _ = s.say(exitOK, verify("-o", "yaml")...)
	var y map[string]any
	if err := yaml.Unmarshal([]byte(out), &y); err != nil || y["digest"] != v["digest"] || !strings.HasPrefix(out, "image: "+s.image+"\ndigest: sha256:") {
		t.Errorf("yaml: got %q, %v", out, err)
	}
	for template, want := range map[string]string{
		"{{.outcome}} {{.facts.build.commit}}":                               "accepted " + s.fact(v, "commit") + "\n",
		"{{range .links}}{{if eq .name \"log\"}}{{.status}}\n{{end}}{{end}}": "holds\n",
		"{{json .facts.build.ref}}":                                          `"refs/tags/v1.2.0"` + "\n",
	} {
		if out, _ := s.say(exitOK, verify("-o", "template="+template)...); out != want {
			t.Errorf("%s: got %q, want %q", template, out, want)
		}
	}

	exact := strings.TrimSuffix(s.image, ":v1.2.0") + "@" + v["digest"].(string)
	if out, said = s.say(exitOK, verify("-q")...); out != exact+"\n" || said != "" {
		t.Errorf("-q: got %q and %q, want %q", out, said, exact)
	}
	if out, _ = s.say(exitOK, "verify", "-q", exact, "--skip-source", "--any-source"); out != exact+"\n" {
		t.Errorf("-q: got %q, want what it takes, %q", out, exact)
	}
	if out, said = s.say(exitRejected, verify("-q", "--ref", "v9")...); out != "" || strings.Count(said, "\n") != 1 || !strings.Contains(said, ": rejected: provenance: ref: got") {
		t.Errorf("-q, rejected: got %q and %q", out, said)
	}
	if out, said = s.say(exitRejected, verify("-q", bad)...); out != exact+"\n" || strings.Count(said, "\n") != 1 {
		t.Errorf("-q of two: got %q and %q", out, said)
	}
	if out, said = s.say(exitOK, "verify", s.image, "--any-source", "-q"); out != exact+"\n" || said != "dangerous: any source is accepted\n" {
		t.Errorf("-q, dangerous: got %q and %q", out, said)
	}
	out, said = s.say(exitRejected, verify(bad)...)
	if !strings.Contains(out, "2 images: 1 accepted, 1 rejected") || said != "" {
		t.Errorf("two: got %q and %q", out, said)
	}

	dir := filepath.Join(t.TempDir(), "copy")
	if out, said = s.say(exitOK, "copy", s.image, dir, "-q"); out != dir+"@"+v["digest"].(string)+"\n" || said != "" {
		t.Errorf("copy -q: got %q and %q", out, said)
	}
	if out, _ = s.say(exitOK, "verify", "-q", dir+":v1.2.0", "--any-source", "--offline"); out != dir+"@"+v["digest"].(string)+"\n" {
		t.Errorf("-q of a layout: got %q", out)
	}
	if out, _ = s.say(exitOK, "copy", s.image, dir, "-o", "template={{.image}}"); out != dir+":v1.2.0\n" {
		t.Errorf("copy: got %q", out)
	}
	if out, _ = s.say(exitOK, "inspect", s.image, "-o", "template={{.verified}}"); out != "false\n" {
		t.Errorf("inspect: got %q", out)
	}
}

// fact returns a member of the build that a verdict is about.
func (s *stage) fact(v map[string]any, name string) string {
	return v["facts"].(map[string]any)["build"].(map[string]any)[name].(string)
}

// fullDisk is standard output that goes to a file on a full disk.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestAnswerThatIsNotWritten: a full disk makes no success; the outcome of a verification stays what it is.
func TestAnswerThatIsNotWritten(t *testing.T) {
	s := newStage(t)
	s.say(exitOK, "trust", "add", s.file("root.json", s.p.Document()), "--yes")
	verify := []string{"verify", s.image, "--skip-source", "--source", "git.example.com/team/app"}
	bad := []string{"verify", s.unproven("team/bare", "v1"), "--skip-source", "--source", "git.example.com/team/app"}
	for _, tt := range []struct {
		code int
		args []string
	}{
		{exitFailure, verify}, {exitFailure, append(verify, "-q")}, {exitFailure, append(verify, "--json")},
		{exitRejected, bad}, {exitFailure, []string{"trust", "list"}}, {exitFailure, []string{"help"}}, {exitFailure, []string{"version"}},
	} {
		cmd := newRootCommand()
		var errs bytes.Buffer
		cmd.SetArgs(tt.args)
		cmd.SetOut(fullDisk{})
		cmd.SetErr(&errs)
		if got := execute(t.Context(), cmd); got != tt.code || !strings.Contains(errs.String(), "no space left on device") {
			t.Errorf("%v: got exit code %d, want %d\n%s", tt.args, got, tt.code, &errs)
		}
	}
}

// TestOutputIsChecked: a wrong format is refused before anything is done, and an answer
// that cannot be printed changes no rejection.
func TestOutputIsChecked(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	before := s.asked.Load()
	verify := []string{"verify", s.image, "--skip-source", "--source", "git.example.com/team/app"}
	for words, args := range map[string][]string{
		"expected text, json, yaml or template": {"-o", "xml"},
		"TEMPLATE:1:":                           {"-o", "template={{.x"},
		"{{json .}}":                            {"-o", "template={{.x"},
		"exclude each other":                    {"-o", "json", "-q"},
	} {
		s.run(exitUsage, append(verify[:len(verify):len(verify)], args...), words)
	}
	s.run(exitUsage, []string{"copy", s.image, filepath.Join(t.TempDir(), "copy"), "-o", "template={{.outcome}}"}, "no member .outcome", "image, digest")
	if s.asked.Load() != before {
		t.Error("a request was sent all the same")
	}
	s.run(exitOK, append(verify, "-o", "template={{json .}}"), `"outcome": "accepted"`)
	s.run(exitOK, append(verify, "-o", "template={{with .nosuch}}x{{end}}nothing"), "nothing")
	s.run(exitFailure, append(verify, "-o", "template={{.nosuch}}"), "lacks a member", "-o json")
	s.run(exitRejected, append(verify, "--ref", "v9", "-o", "template={{.nosuch}}"), "lacks a member")
	s.run(exitFailure, append(verify, "-o", "template={{.image.nosuch}}"), "nosuch", "-o json")
	s.run(exitRejected, append(verify, "--ref", "v9", "-o", "template={{.image.nosuch}}"), "nosuch")
}

// TestTimeoutNamesItself: what was not finished in time says which flag decides that.
func TestTimeoutNamesItself(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	image := strings.TrimPrefix(hang.URL, "http://") + "/team/app:v1"
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitUndecided, []string{"verify", image, "--any-source"}},
		{exitUndecided, []string{"verify", image, image + "2", "--any-source"}},
		{exitFailure, []string{"inspect", image}},
		{exitFailure, []string{"copy", image, t.TempDir()}},
		{exitFailure, []string{"trust", "add", hang.URL, "--yes"}},
	} {
		out, said := s.say(c.code, append(c.args, "--timeout", "100ms")...)
		if text := out + said; !strings.Contains(text, "not finished within --timeout 100ms") || strings.Contains(text, "context") || strings.Contains(text, "Get \"") {
			t.Errorf("%v: got %q", c.args, text)
		}
	}
}
