package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// TestSigningConfigByName: a trust root that does not say where to sign, or says it no longer,
// is an error with the way out. Nothing is sent.
func TestSigningConfigByName(t *testing.T) {
	platform := prooftest.New(t)
	pinned, err := trust.Parse(platform.Document())
	if err != nil {
		t.Fatal(err)
	}
	public, _ := tuf.Named("sigstore")
	copied, err := public.Copy()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "sigstore-tuf", "2026-08-21.json"))
	if err != nil {
		t.Fatal(err)
	}
	stale, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale.Repository.SigningConfig) == 0 {
		t.Fatal("the public repository's copy has no signing config")
	}
	t.Chdir(t.TempDir())
	// A repository that is signed has a file of that name, which would take the token elsewhere.
	if err := os.WriteFile("sigstore", []byte(`{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		roots []*trust.Root
		args  []string
		code  int
		want  []string
	}{
		"none":                {nil, []string{"sigstore"}, exitFailure, []string{`0 trust roots "sigstore"`, "colophon trust add sigstore", "./FILE"}},
		"the copy":            {[]*trust.Root{copied}, []string{"sigstore"}, exitFailure, []string{"is the copy that is built in", "colophon trust refresh"}},
		"its pin":             {[]*trust.Root{copied}, []string{copied.Pin()}, exitFailure, []string{"is the copy that is built in"}},
		"stale":               {[]*trust.Root{stale}, []string{"sigstore"}, exitFailure, []string{"is stale since 2026-08-28", "colophon trust refresh https://tuf-repo-cdn.sigstore.dev"}},
		"of another name":     {[]*trust.Root{copied}, []string{"github"}, exitFailure, []string{"colophon trust add github"}},
		"no repository":       {[]*trust.Root{pinned}, []string{platform.URL}, exitFailure, []string{"does not come from a TUF repository"}},
		"with a trust root":   {[]*trust.Root{copied}, []string{"sigstore", "--trust-root", copied.Pin()}, exitUsage, []string{"sigstore is a trust root itself"}},
		"another URL":         {[]*trust.Root{copied}, []string{"https://tuf.example.com"}, exitFailure, []string{"0 trust roots"}},
		"a file of that name": {[]*trust.Root{copied}, []string{"./sigstore"}, exitUsage, []string{"rekorTlogConfig or tsaConfig is missing"}},
	} {
		store := trust.Store{Dir: filepath.Join(t.TempDir(), "trust")}
		for _, r := range tt.roots {
			if err := store.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("COLOPHON_TRUST", store.Dir)
		var errs bytes.Buffer
		root := newRootCommand()
		root.SetErr(&errs)
		root.SetOut(&errs)
		root.SetArgs(append([]string{"sign", "sigstore", "--key", "none.key", "--signing-config"}, tt.args...))
		if code := execute(t.Context(), root); code != tt.code {
			t.Errorf("%s: got exit code %d, want %d: %s", name, code, tt.code, &errs)
		}
		for _, w := range tt.want {
			if !strings.Contains(errs.String(), w) {
				t.Errorf("%s: got %s, want %q in it", name, &errs, w)
			}
		}
	}
}
