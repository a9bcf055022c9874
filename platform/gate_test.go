package platform

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

const gatePolicy = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "registry.example.com/**"}]
      accept:
        - built: {source: https://git.example.com/team/app}
`

// The registry gets the policies and trust roots when they change, the platform's own root among
// them; broken ones and those that others may write are told, and change nothing.
func TestGateFiles(t *testing.T) {
	dir, p := t.TempDir(), prooftest.New(t)
	file := filepath.Join(dir, "policies", "shop.yaml")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(gatePolicy, 0o600)
	c := &gateConfig{Policies: filepath.Dir(file)}
	first, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGateFiles(c, first, false)
	if err != nil {
		t.Fatal(err)
	}
	told := func() (d gateDocuments) {
		t.Helper()
		data, err := json.Marshal(g.documents())
		if err == nil {
			err = json.Unmarshal(data, &d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := told(); len(d.Policies) != 1 || d.Roots != nil {
		t.Fatalf("before the platform's own root is known: got %+v", d)
	}
	own := func(context.Context) (*trust.Root, error) { return p.Root(), nil }
	list := func(context.Context) (*ownList, error) { return &ownList{"list", []byte("raw"), []byte("key")}, nil }
	if problem := g.look(t.Context(), own, list); problem != "" {
		t.Fatal(problem)
	}
	if d := told(); d.List == nil || string(d.List.Raw) != "raw" {
		t.Errorf("the platform's own list: got %+v", d.List)
	}
	silent := func(context.Context) (*ownList, error) { return nil, errors.New("no list") }
	if problem := g.look(t.Context(), own, silent); !strings.Contains(problem, "no list") || told().List == nil {
		t.Errorf("no answer: got %q, want what was known before, and the problem", problem)
	}
	if d := told(); len(d.Roots) != 1 || string(d.Roots[0].Raw) != string(p.Document()) {
		t.Fatalf("got %d roots", len(d.Roots))
	}
	write(gatePolicy+"# changed\n", 0o600)
	if problem := g.look(t.Context(), own, list); problem != "" || !strings.Contains(string(told().Policies[0].Raw), "# changed") {
		t.Errorf("a change: got %q", problem)
	}
	for what, c := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"broken":                {strings.Replace(gatePolicy, "unmatched", "unmatchd", 1), 0o600, "unmatchd"},
		"empty":                 {"", 0o600, "policy"},
		"writable for everyone": {gatePolicy, 0o666, "chmod go-w"},
	} {
		write(c.text, c.mode)
		if problem := g.look(t.Context(), own, list); !strings.Contains(problem, c.says) || !strings.Contains(problem, "still do") {
			t.Errorf("%s: got %q, want %q", what, problem, c.says)
		}
		if !strings.Contains(string(told().Policies[0].Raw), "# changed") {
			t.Errorf("%s: it counts", what)
		}
	}
	// The platform's own root is asked for again, and a failure takes nothing away.
	write(gatePolicy, 0o600)
	g.asked = time.Time{}
	if problem := g.look(t.Context(), func(context.Context) (*trust.Root, error) { return nil, errors.New("no answer") }, list); !strings.Contains(problem, "no answer") || len(told().Roots) != 1 {
		t.Errorf("got %q, %d roots", problem, len(told().Roots))
	}
}

// A platform does not start with a gate that could not decide.
func TestGateSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "policies.yaml")
	for what, c := range map[string]struct{ text, says string }{
		"no file": {"", "no such file"},
		"broken":  {strings.Replace(gatePolicy, "deny", "denied", 1), "denied"},
		"good":    {gatePolicy, ""},
	} {
		_ = os.Remove(file)
		if c.text != "" {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		config := filepath.Join(dir, "colophond.json")
		if err := os.WriteFile(config, []byte(`{"registry": {"gate": {"policies": "`+file+`"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := newPlatform(Config{File: config, LogFormat: "text", LogLevel: "info"}, roleServe)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "registry.gate")) {
			t.Errorf("%s: got %v, want %q", what, err, c.says)
		}
	}
	if _, err := newPlatform(Config{File: filepath.Join(dir, "colophond.json"), LogFormat: "text", LogLevel: "info"}, roleRegistry); err == nil || !strings.Contains(err.Error(), "trust document") {
		t.Errorf("a registry on a host of its own without trust: got %v", err)
	}
}
