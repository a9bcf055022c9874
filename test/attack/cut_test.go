package attack

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// A cut takes a guard out of the source: in file, below the repository's root,
// the text old is replaced by new. It must be there exactly once.
type cut struct{ file, old, new string }

// overlay writes the sources without the guards, and the file for -overlay of
// the go command (go help build).
func overlay(t testing.TB, cuts []cut) string {
	t.Helper()
	dir := t.TempDir()
	changed := map[string]string{} // text by file
	for _, c := range cuts {
		path := filepath.Join(harness.Root(t), c.file)
		text, ok := changed[path]
		if !ok {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, c.old); n != 1 {
			t.Fatalf("%s has %d times the guard\n%s\nwant it once: the attack's cut must follow the source", c.file, n, c.old)
		}
		changed[path] = strings.Replace(text, c.old, c.new, 1)
	}
	replace := map[string]string{}
	for path, text := range changed {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// goCommand runs the go command over the repository without the guards.
func goCommand(t testing.TB, cuts []cut, args ...string) (string, error) {
	t.Helper()
	args = append([]string{args[0], "-overlay", overlay(t, cuts)}, args[1:]...)
	cmd := exec.Command("go", args...)
	cmd.Dir = harness.Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// without builds the two programs without the guards.
func without(t testing.TB, cuts []cut) (colophond, cli string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := goCommand(t, cuts, "build", "-buildvcs=false", "-o", dir+"/", "./cmd/colophond", "./cmd/colophon"); err != nil {
		t.Fatalf("building without the guard: %v\n%s", err, out)
	}
	return filepath.Join(dir, "colophond"), filepath.Join(dir, "colophon")
}

// Each attack has a guard that can be taken out, where it says.
func TestGuardsAreInTheSource(t *testing.T) {
	for _, a := range attacks {
		if len(a.cuts) == 0 {
			t.Errorf("%s: its guard is never taken out, so nobody knows what stops it", a.name)
			continue
		}
		overlay(t, a.cuts)
	}
}

// TestUnguarded takes out one guard after the other, and wants each attack to get through.
// It builds the platform once for each: some ten minutes, so only where it is asked for.
func TestUnguarded(t *testing.T) {
	if os.Getenv("COLOPHON_ATTACK_UNGUARDED") == "" {
		t.Skip("not asked for: make attack-unguarded")
	}
	need(t)
	tried, through := 0, 0
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			tried++
			o := unguarded(t, a)
			fmt.Printf("%s/%s without %s: ", o.where, a.name, a.guard)
			if o.through == "" {
				fmt.Println("STILL STOPPED:", clip(o.stopped, 300))
				t.Error("still stopped without its guard")
				return
			}
			through++
			fmt.Println("got through:", clip(o.through, 160))
		})
	}
	fmt.Printf("%d guards taken out, %d attacks got through\n", tried, through)
}

func unguarded(t *testing.T, a *attack) outcome {
	if a.unit != "" {
		return a.runUnit(t, a.cuts)
	}
	colophond, cli := without(t, a.cuts)
	s := newScene(t, colophond, cli)
	switch {
	case contains(a.from, "room"):
		return s.runInside("room", []*attack{a}, a.name)[0]
	case len(a.from) > 0:
		return s.runInside(a.from[0], []*attack{a}, a.name)[0]
	}
	through, stopped := a.beside(s)
	return outcome{attack: a, where: "beside", through: through, stopped: stopped}
}

// testFailure is what a test says as it fails. One that panics or does not compile has tried nothing.
var testFailure = regexp.MustCompile(`\w+_test\.go:\d+: .*`)

// runUnit runs the test that is an attack's honest form: it fails where the
// attack gets through.
func (a *attack) runUnit(t *testing.T, cuts []cut) outcome {
	t.Helper()
	needWorld(t) // loopback, on which tests listen
	pkg, name, _ := strings.Cut(a.unit, ": ")
	out, err := goCommand(t, cuts, "test", "-vet=off", "-count=1", "-v", "-run", "^"+name+"$", "./"+pkg)
	o := outcome{attack: a, where: "test"}
	failures := testFailure.FindAllString(out, -1)
	switch {
	case strings.Contains(out, "--- FAIL: "+name) && len(failures) > 0:
		o.through = strings.Join(failures, "; ")
	case err == nil && strings.Contains(out, "--- PASS: "+name):
		o.stopped = a.unit + " passed"
	default:
		t.Fatalf("%s could not be run: %v\n%s", a.unit, err, out)
	}
	return o
}
