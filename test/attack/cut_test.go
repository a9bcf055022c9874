package attack

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// A cut removes a guard from the source: it replaces the text old by new in file, a
// path below the repository's root. The text must occur exactly once.
type cut struct{ file, old, new string }

// overlay writes the sources without the guards, and returns the path of a file for
// the -overlay flag of the go command (go help build).
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
			t.Fatalf("%s contains the guard %d times:\n%s\nwant once: update the attack's cut to fit the source", c.file, n, c.old)
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

// goCommand runs the go command in a directory of the repository without the guards.
func goCommand(t testing.TB, dir string, cuts []cut, args ...string) (string, error) {
	t.Helper()
	args = append([]string{args[0], "-overlay", overlay(t, cuts)}, args[1:]...)
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join(harness.Root(t), dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// without builds the programs without the guards.
func without(t testing.TB, cuts []cut) (colophond, cli string) {
	t.Helper()
	dir := t.TempDir()
	for module, packages := range map[string][]string{".": {"./cmd/colophond", "./cmd/colophon"}, "cmd/colophon-scan": {"."}} {
		if out, err := goCommand(t, module, cuts, append([]string{"build", "-buildvcs=false", "-o", dir + "/"}, packages...)...); err != nil {
			t.Fatalf("build without the guard: %v\n%s", err, out)
		}
	}
	return filepath.Join(dir, "colophond"), filepath.Join(dir, "colophon")
}

// TestGuardsAreInTheSource: every attack has a guard, and its cuts fit the source.
func TestGuardsAreInTheSource(t *testing.T) {
	for _, a := range attacks {
		if len(a.cuts) == 0 {
			t.Errorf("%s has no cuts, so no test proves that its guard stops it", a.name)
			continue
		}
		overlay(t, a.cuts)
		if a.unit != "" && !a.unitExists(t) {
			t.Errorf("%s: there is no test %q", a.name, a.unit)
		}
	}
}

// unitExists reports whether the unit test of an attack is in the source.
func (a *attack) unitExists(t *testing.T) bool {
	pkg, name, _ := strings.Cut(a.unit, ": ")
	files, err := filepath.Glob(filepath.Join(harness.Root(t), pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		source, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(source), "\nfunc "+name+"(t *testing.T) {\n")
	})
}

// TestUnguarded removes one guard at a time, and requires that each attack then succeeds.
// It builds the platform for each attack, which takes some ten minutes in total.
func TestUnguarded(t *testing.T) {
	if os.Getenv("COLOPHON_ATTACK_UNGUARDED") == "" {
		t.Skip("NOT ASKED FOR: runs only by make attack-unguarded")
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
				t.Error("the attack fails without its guard, so something else stops it")
				return
			}
			through++
			fmt.Println("succeeded:", clip(o.through, 160))
		})
	}
	fmt.Printf("%d guards removed, %d attacks succeeded\n", tried, through)
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

// testFailure matches the message of a failing test. A test that panics or does not compile has tried nothing.
var testFailure = regexp.MustCompile(`\w+_test\.go:\d+: .*`)

// runUnit runs the unit test of an attack. The test fails if the attack succeeds.
func (a *attack) runUnit(t *testing.T, cuts []cut) outcome {
	t.Helper()
	needWorld(t) // sets up loopback, on which tests listen
	pkg, name, _ := strings.Cut(a.unit, ": ")
	out, err := goCommand(t, ".", cuts, "test", "-vet=off", "-count=1", "-v", "-run", "^"+name+"$", "./"+pkg)
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
