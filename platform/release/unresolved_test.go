package release

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
)

// Each path is excluded only if BuildKit's own code sends nothing of it.
func TestIgnored(t *testing.T) {
	paths := []string{"a/model.bin", "module", "deep/er/module", "Dockerfile", ".dockerignore"}
	for text, want := range map[string]string{
		"":                               "",
		"*":                              "a/model.bin module deep/er/module",
		"*\n!a":                          "module deep/er/module",
		"*\n!a/x":                        "a/model.bin module deep/er/module",
		"*\n!module/x":                   "a/model.bin deep/er/module",
		"*\n!deep":                       "a/model.bin module",
		"*\n!deep\ndeep/er":              "a/model.bin module deep/er/module",
		"*\n!**/keep":                    "",
		"*\n!*/er/*/keep":                "a/model.bin",
		"*\n!*.go":                       "a/model.bin module deep/er/module",
		"module":                         "module",
		"module/":                        "module",
		"/module":                        "module",
		"module/*":                       "",
		"**/module":                      "module deep/er/module",
		"**/*.bin":                       "a/model.bin",
		"# module":                       "",
		"a/./model.bin\n!a/../a/model.*": "",
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"Dockerfile": "FROM scratch\n", ".dockerignore": text, "a/model.bin": "x", "module/keep": "x", "module/x": "x", "deep/er/module/keep": "x"} {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		i, err := readIgnored(dir, "", "Dockerfile")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, path := range paths {
			out, err := i.excludes(path)
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if out {
				got = append(got, path)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: excluded: got %q, want %q", text, got, want)
		}
		patterns, err := ignorefile.ReadAll(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := fsutil.Walk(t.Context(), dir, &fsutil.FilterOpt{ExcludePatterns: patterns}, func(sent string, _ fs.FileInfo, err error) error {
			for _, path := range got {
				if sent == path || strings.HasPrefix(sent, path+"/") {
					t.Errorf("%q: BuildKit sends %s", text, sent)
				}
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// What the commit only refers to stops a build from a Dockerfile that can read it, and no
// other. What no build can read is in the release's log and in the provenance.
func TestUnresolved(t *testing.T) {
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
	for what, c := range map[string]struct {
		files   map[string]string
		builder string
		stopped string // in the error; empty: built
		context string
	}{
		"a pointer":                       {map[string]string{"a/model.bin": pointer}, "", `can read "a/model.bin"`, ""},
		"a pointer that is left out":      {map[string]string{"a/model.bin": pointer, ".dockerignore": "**/*.bin\n"}, "", "", ""},
		"the other ignore file counts":    {map[string]string{"a/model.bin": pointer, ".dockerignore": "a\n", "Dockerfile.dockerignore": "b\n"}, "", `can read "a/model.bin"`, ""},
		"left out by the other":           {map[string]string{"a/model.bin": pointer, "Dockerfile.dockerignore": "a\n"}, "", "", ""},
		"the ignore file is the pointer":  {map[string]string{".dockerignore": pointer}, "", `can read ".dockerignore"`, ""},
		"the ignore file leads out":       {map[string]string{"a/model.bin": pointer, ".dockerignore": "-> /etc/passwd"}, "", "expected a regular file", ""},
		"a broken pattern":                {map[string]string{"a/model.bin": pointer, ".dockerignore": "[\n"}, "", ".dockerignore", ""},
		"outside the context":             {map[string]string{"a/model.bin": pointer, "web/Dockerfile": "FROM scratch\n"}, "", "", "web"},
		"in the context":                  {map[string]string{"a/model.bin": pointer, ".dockerignore": "a\n", "a/Dockerfile": "FROM scratch\n"}, "", `can read "a/model.bin"`, "a"},
		"left out by the context's":       {map[string]string{"a/model.bin": pointer, "a/.dockerignore": "*.bin\n", "a/Dockerfile": "FROM scratch\n"}, "", "", "a"},
		"a context that is a link":        {map[string]string{"a/model.bin": pointer, "web/Dockerfile": "FROM scratch\n", "l": "-> web"}, "", "l is a link", "l"},
		"a context out of the tree":       {map[string]string{"l": "-> /etc", "Dockerfile": "FROM scratch\n"}, "", "l is a link", "l"},
		"the golang builder cannot read":  {map[string]string{"a/model.bin": pointer}, "golang", "", ""},
		"links that lead out do not stop": {map[string]string{"l": "-> /etc/shadow", "m": "-> ../../../x", ".dockerignore": "-> /etc/passwd"}, "", "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			b := &builds{seeds: []int64{1}}
			s := dockerStage(t, b, nil, "FROM scratch\n")
			s.req.Recipe.Builder, s.req.Recipe.Context = c.builder, c.context
			dir := strings.TrimPrefix(s.req.Source, "file://")
			for name, text := range c.files {
				file := filepath.Join(dir, name)
				err := os.MkdirAll(filepath.Dir(file), 0o755)
				if to, isLink := strings.CutPrefix(text, "-> "); isLink {
					err = errors.Join(err, os.Symlink(to, file))
				} else {
					err = errors.Join(err, os.WriteFile(file, []byte(text), 0o644))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			gittest.Git(t, dir, "add", ".")
			gittest.Git(t, dir, "commit", "-q", "-m", "files")
			gittest.Git(t, dir, "tag", "-f", "v1.0.0")
			err, events := s.run(t)
			if c.stopped != "" {
				if !strings.Contains(err, c.stopped) || len(b.reqs) > 0 {
					t.Errorf("got %s after %d builds, want %q and none", err, len(b.reqs), c.stopped)
				}
				return
			}
			if !passed(err) {
				t.Error(err)
			}
			said := false
			for _, e := range events {
				said = said || strings.Contains(e.Line, `"a/model.bin" is a Git LFS pointer`)
			}
			if _, pointer := c.files["a/model.bin"]; said != pointer {
				t.Errorf("the log names the pointer: %v, want %v", said, pointer)
			}
		})
	}
	config := map[string]string{}
	note(config, "source.unresolved", unresolved(source.Tree{Unresolved: []source.Unresolved{{Path: "a\nb", Reason: "a submodule"}}}))
	if got, want := config["source.unresolved"], `"a\nb" is a submodule`; got != want {
		t.Errorf("in the provenance: got %q, want %q", got, want)
	}
}

// Of a source, a build reads its context and the Dockerfile, and the context's own ignore
// file or that of the Dockerfile counts.
func TestIgnoredOfContext(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{".dockerignore": "web\n", "web/.dockerignore": "big\n", "deploy/web.Dockerfile.dockerignore": "small\n"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	paths := []string{"web", "web/big", "web/small", "webby", "other/big", "big", ".dockerignore", "web/.dockerignore", "web/Dockerfile", "deploy", "deploy/web.Dockerfile"}
	for dockerfile, want := range map[string]string{
		"web/Dockerfile":        "web/big webby other/big big .dockerignore deploy deploy/web.Dockerfile",
		"deploy/web.Dockerfile": "web/small webby other/big big .dockerignore",
	} {
		i, err := readIgnored(dir, "web", dockerfile)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, path := range paths {
			if out, err := i.excludes(path); err != nil {
				t.Error(err)
			} else if out {
				got = append(got, path)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: excluded: got %q, want %q", dockerfile, got, want)
		}
	}
}
