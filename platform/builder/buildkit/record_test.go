package buildkit

import (
	"os"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

// gap is a request that was not hashed, as BuildKit 0.33 writes it.
const gap = `{"op":"sha256:1","name":"git clone","method":"POST","uri":"https://a/","reason":"method_not_materializable"}`

func statement(steps, mode, deps string) []byte {
	return []byte(`{"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"resolvedDependencies":[` + deps +
		`],"internalParameters":{"buildConfig":{"llbDefinition":[` + steps + `]}}},"runDetails":{"metadata":{"buildkit_metadata":{"network":{"mode":"` + mode +
		`","proxy":{"incomplete":[` + gap + `]}}}}}}}`)
}

func TestRecordMustBeWhole(t *testing.T) {
	const exec, offline, file = `{"op":{"Op":{"exec":{}}}}`, `{"op":{"Op":{"exec":{"network":2}}}}`, `{"op":{"Op":{"file":{}}}}`
	const dep = `{"uri":"https://b/","digest":{"sha256":"1"}}`
	for name, c := range map[string]struct {
		raw []byte
		err string
	}{
		"proxied":                 {statement(exec, "proxy", dep), ""},
		"no network":              {statement(offline+","+file, "", dep), ""},
		"past the proxy":          {statement(file+","+exec, "", dep), "network of the steps"},
		"host network":            {statement(`{"op":{"Op":{"exec":{"network":1}}}}`, "host", dep), "network of the steps"},
		"no steps":                {statement("", "proxy", dep), "list of steps is missing"},
		"no digest":               {statement(exec, "proxy", `{"uri":"https://b/"}`), "no digest"},
		"other predicate":         {[]byte(`{"predicateType":"x"}`), "predicate type"},
		"a request of no address": {[]byte(strings.ReplaceAll(string(statement(exec, "proxy", dep)), `"uri":"https://a/"`, `"url":"https://a/"`)), "got method \"POST\" and address \"\""},
		"not JSON":                {[]byte(`x`), "it is not JSON"},
	} {
		deps, gaps, err := dependencies([][]byte{c.raw, c.raw})
		if c.err == "" && (err != nil || len(deps) != 1 || len(gaps) != 1) {
			t.Errorf("%s: got %v, %v, %v, want one dependency and one gap", name, deps, gaps, err)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.err)
		}
	}
	if _, _, err := dependencies(nil); err == nil {
		t.Error("no provenance at all was taken")
	}
}

// The check above reads BuildKit's own notes: a real build must have them where
// it looks.
func TestStepsAreWhereTheCheckLooks(t *testing.T) {
	b := realBuilder(t)
	req := builder.Request{Tree: tree(t, "FROM busybox:1.35\nRUN true\n"), Epoch: epoch, Layout: t.TempDir()}
	root, err := os.OpenRoot(req.Tree)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	opt, _, err := options(t.Context(), req, newSourceTree(root, req.Epoch))
	if err != nil {
		t.Fatal(err)
	}
	if req.Session, err = b.rooms.Begin(t.Context(), builder.Session{}); err != nil {
		t.Fatal(err)
	}
	d, err := b.start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.solve(t.Context(), opt, req.Layout, &progress{}); err != nil {
		t.Fatal(err)
	}
	_, prov, err := finish(req.Layout)
	if err != nil || len(prov) != 1 {
		t.Fatalf("%d statements, %v", len(prov), err)
	}
	// Without its word about the proxy the same record must be refused.
	forged := strings.Replace(string(prov[0]), `"mode": "proxy"`, `"mode": ""`, 1)
	if forged == string(prov[0]) {
		forged = strings.Replace(string(prov[0]), `"mode":"proxy"`, `"mode":""`, 1)
	}
	if _, _, err := dependencies([][]byte{[]byte(forged)}); err == nil || !strings.Contains(err.Error(), "network of the steps") {
		t.Errorf("got %v, want an error about the network", err)
	}
	if _, _, err := dependencies(prov); err != nil {
		t.Error(err)
	}
}
