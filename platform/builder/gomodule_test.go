package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindGo: module and workspace are those that the go command would find in the context,
// and nothing outside the context belongs to them.
func TestFindGo(t *testing.T) {
	const lib = "module example.com/lib\n"
	for name, tt := range map[string]struct {
		files        map[string]string
		context, pkg string
		want         string // module, go.work, unused go.work, modules; or the error
	}{
		"a module":                   {map[string]string{"go.mod": lib, "cmd/x/main.go": ""}, ".", "cmd/x", ". [] [] [.]"},
		"the nearest module":         {map[string]string{"go.mod": lib, "svc/go.mod": lib, "svc/cmd/main.go": ""}, ".", "svc/cmd", "svc [] [] [svc]"},
		"none":                       {map[string]string{"cmd/x/main.go": ""}, ".", "cmd/x", "error: no go.mod"},
		"none in the context":        {map[string]string{"go.mod": lib, "cmd/x/main.go": ""}, "cmd", "cmd/x", "error: no go.mod"},
		"no package":                 {map[string]string{"go.mod": lib}, ".", "cmd/x", "error: no such directory"},
		"a workspace":                {map[string]string{"go.work": "go 1.26\nuse (\n./svc\n./lib\n)\n", "svc/go.mod": lib, "lib/go.mod": lib}, ".", "svc", "svc [go.work] [] [lib svc]"},
		"a workspace in a context":   {map[string]string{"x/go.work": "go 1.26\nuse (\n./svc\n./lib\n)\n", "x/svc/go.mod": lib, "x/lib/go.mod": lib}, "x", "x/svc", "x/svc [x/go.work] [] [x/lib x/svc]"},
		"a workspace above it":       {map[string]string{"go.work": "go 1.26\nuse ./svc\n", "svc/go.mod": lib}, "svc", "svc", "svc [] [] [svc]"},
		"another's workspace":        {map[string]string{"go.work": "go 1.26\nuse ./lib\n", "svc/go.mod": lib, "lib/go.mod": lib}, ".", "svc", "svc [] [go.work] [svc]"},
		"the same module twice":      {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse ./svc/\n", "svc/go.mod": lib}, ".", "svc", "svc [go.work] [] [svc]"},
		"a module outside":           {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse ../lib\n", "svc/go.mod": lib}, ".", "svc", `error: "../lib" is outside`},
		"a module outside, hidden":   {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse ./a/../../lib\n", "svc/go.mod": lib}, ".", "svc", "error: is outside"},
		"a module of the host":       {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse /usr/lib/x\n", "svc/go.mod": lib}, ".", "svc", "error: is outside"},
		"a module above the context": {map[string]string{"x/go.work": "go 1.26\nuse ./svc\nuse ../lib\n", "x/svc/go.mod": lib, "lib/go.mod": lib}, "x", "x/svc", "error: is outside"},
		"a module that is not there": {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse ./lib\n", "svc/go.mod": lib}, ".", "svc", "error: lib"},
		"a replacement outside":      {map[string]string{"go.mod": lib + "replace example.com/a => ../a\n"}, ".", ".", `error: the replacement of example.com/a, "../a", is outside`},
		"one above the context":      {map[string]string{"a/go.mod": lib, "x/go.mod": lib + "replace example.com/a => ../a\n"}, "x", "x", "error: is outside"},
		"one in the tree":            {map[string]string{"a/go.mod": lib, "x/go.mod": lib + "replace example.com/a => ../a\n"}, ".", "x", "x [] [] [x]"},
		"one of the host":            {map[string]string{"go.mod": lib + "replace example.com/a => /usr/a\n"}, ".", ".", "error: is outside"},
		"one of the workspace":       {map[string]string{"go.work": "go 1.26\nuse ./svc\nreplace example.com/a => ../a\n", "svc/go.mod": lib}, ".", "svc", "error: is outside"},
		"one of another module":      {map[string]string{"go.work": "go 1.26\nuse ./svc\nuse ./lib\n", "svc/go.mod": lib, "lib/go.mod": lib + "replace example.com/a => ../../a\n"}, ".", "svc", "error: is outside"},
		"a broken workspace":         {map[string]string{"go.work": "use (\n", "svc/go.mod": lib}, ".", "svc", "error: go.work"},
		"too large":                  {map[string]string{"go.work": strings.Repeat("// x\n", 1<<20), "svc/go.mod": lib}, ".", "svc", "error: go.work"},
	} {
		dir := t.TempDir()
		for name, text := range tt.files {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		g, err := FindGo(tree, tt.context, tt.pkg)
		got := fmt.Sprintf("%s [%s] [%s] %v", g.Module, g.Work, g.Unused, g.Modules)
		if err != nil {
			got = "error: " + err.Error()
		}
		if want, failing := strings.CutPrefix(tt.want, "error: "); failing != (err != nil) || failing && !strings.Contains(got, want) || !failing && got != want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}
