package eval_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

// TestRunRefuses: whatever the program answers that is no answer is an error.
func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	order := eval.Order{Type: eval.CUE, Policy: "x: 1", Input: json.RawMessage(`{"x":1}`)}
	if _, err := eval.Run(t.Context(), order); err == nil || !strings.Contains(err.Error(), "neither beside this program nor in PATH") {
		t.Errorf("no program: got %v", err)
	}
	for name, c := range map[string][2]string{
		"an answer":            {`echo '{"result":"holds"}'`, ""},
		"nothing":              {"true", "answer"},
		"another result":       {`echo '{"result":"true"}'`, `found "true"`},
		"an unknown member":    {`echo '{"result":"holds","x":1}'`, "there is no member"},
		"two answers":          {`echo '{"result":"holds"}{"result":"fails"}'`, "answer"},
		"a failure":            {`echo '{"result":"holds"}'; echo broken >&2; exit 1`, "broken"},
		"killed":               {`kill -9 $$`, "was killed"},
		"too long an answer":   {`yes '{"result":"holds"}' | head -c 70000`, "answer"},
		"the environment":      {`[ -z "$SECRET" ] && echo '{"result":"holds"}'`, ""},
		"an answer and a wait": {`echo '{"result":"holds"}'; exec sleep 300`, "no answer within 2s"},
	} {
		t.Setenv("SECRET", "x")
		wait := await.Patience
		if strings.Contains(name, "wait") {
			wait = 2 * time.Second
		}
		if err := os.WriteFile(filepath.Join(dir, eval.Program), []byte("#!/bin/sh\nPATH=/bin:/usr/bin\ncat > /dev/null\n"+c[0]+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := eval.RunWithin(t.Context(), order, wait)
		if c[1] == "" {
			if err != nil || a.Result != eval.Holds {
				t.Errorf("%s: got %v, %v", name, a, err)
			}
		} else if err == nil || !strings.Contains(fmt.Sprint(err), c[1]) {
			t.Errorf("%s: got %v, %v, want %s", name, a, err, c[1])
		}
	}
}

// TestAtOnce: no more than MaxAtOnce processes run, however many policies wait; who stops waiting gets
// an error.
func TestAtOnce(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	script := "#!/bin/sh\nPATH=/bin:/usr/bin\ncat > /dev/null\nmkdir " + dir + "/run-$$\nls -d " + dir + "/run-* | wc -l > " + dir + "/seen-$$\nwhile [ ! -e " + dir + "/go ]; do sleep 0.05; done\nrmdir " + dir + "/run-$$\necho '{\"result\":\"holds\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, eval.Program), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	order := eval.Order{Type: eval.CUE, Policy: "x: 1", Input: json.RawMessage(`{"x":1}`)}
	var all sync.WaitGroup
	for range 4 * eval.MaxAtOnce {
		all.Go(func() {
			if a, err := eval.RunWithin(t.Context(), order, await.Patience); err != nil || a.Result != eval.Holds {
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
	await.True(t, "as many as may run", func() bool {
		running, _ := filepath.Glob(filepath.Join(dir, "seen-*"))
		return len(running) == eval.MaxAtOnce
	})
	soon, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := eval.Run(soon, order); err == nil || !strings.Contains(err.Error(), "others were evaluated") {
		t.Errorf("nobody waits for ever: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	seen, err := filepath.Glob(filepath.Join(dir, "seen-*"))
	if err != nil || len(seen) != 4*eval.MaxAtOnce {
		t.Fatalf("got %d runs, %v", len(seen), err)
	}
	for _, file := range seen {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(raw))); err != nil || n > eval.MaxAtOnce {
			t.Errorf("%s processes ran at once, want at most %d", strings.TrimSpace(string(raw)), eval.MaxAtOnce)
		}
	}
}

// TestConfined: while the program evaluates a policy, it can open no file, and the kernel refuses its connections and
// the start of other programs.
func TestConfined(t *testing.T) {
	program, err := filepath.Abs(filepath.Join("../../../out/bin", eval.Program))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		needs.Missing(t, "%v: run make evaluator", err)
	}
	order, err := json.Marshal(eval.Order{Type: eval.Rego, Policy: slow, Input: json.RawMessage("{}")})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stdin = bytes.NewReader(order)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	read := func(name string) string {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	await.True(t, "the program is confined", func() bool {
		status := read("status")
		if strings.Contains(status, "(zombie)") {
			t.Fatal("it ended before it was confined")
		}
		return strings.Contains(status, "\nSeccomp:\t2\n") && strings.Contains(status, "\nNoNewPrivs:\t1\n")
	})
	for line := range strings.Lines(read("limits")) {
		if name := strings.Join(strings.Fields(line), " "); strings.HasPrefix(name, "Max open files ") && name != "Max open files 0 0 files" {
			t.Errorf("it may open files: %s", line)
		}
	}
}

// slow is a policy that takes all the time that there is.
const slow = "package sigstore\nisCompliant { x := numbers.range(1,3000); y := [z | a := x[_]; b := x[_]; z := a*b]; count(y) == 1 }"

// TestLimits: the program itself ends at its limits.
func TestLimits(t *testing.T) {
	bin, err := filepath.Abs("../../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, eval.Program)); err != nil {
		needs.Missing(t, "%v: run make evaluator", err)
	}
	if testing.Short() {
		t.Skip("NOT ASKED FOR: takes the seconds that a policy may take")
	}
	t.Setenv("PATH", bin)
	for name, policy := range map[string]string{
		"memory": "package sigstore\nisCompliant { x := [y | y := numbers.range(1,50000000)]; count(x) == 1 }",
		"time":   slow,
	} {
		start := time.Now()
		a, err := eval.Run(t.Context(), eval.Order{Type: eval.Rego, Policy: policy, Input: json.RawMessage("{}")})
		if err == nil && a.Result != eval.Undecided || time.Since(start) > eval.MaxWait+await.Patience {
			t.Errorf("%s: got %v, %v after %s", name, a, err, time.Since(start))
		}
	}
	large := eval.Order{Type: eval.Rego, Policy: strings.Repeat("#", eval.MaxOrder), Input: json.RawMessage("{}")}
	if _, err := eval.Run(t.Context(), large); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a large order: got %v", err)
	}
	if a, err := eval.Run(t.Context(), eval.Order{Type: eval.CUE, Policy: strings.Repeat("(", 1<<20), Input: json.RawMessage("{}")}); err == nil && (a.Result != eval.Undecided || len(a.Reason) > eval.MaxReason) {
		t.Errorf("deep nesting: got %v", a.Result)
	}
}
