package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pkg is one package with all of its mutants, in the test binaries of one or more
// packages.
type pkg struct {
	path    string // import path
	dir     string
	work    string // temporary directory
	suites  []suite
	mutants []mutant
	tests   []test
}

// suite is the test binary of one package.
type suite struct {
	dir, binary string
}

// test is one test, with what it reaches without a mutant.
type test struct {
	suite
	name    string
	took    time.Duration
	reaches map[int]bool
}

// state says what became of a mutant.
type state string

const (
	killed    state = "killed"
	slow      state = "killed as too slow"
	survived  state = "survived"
	unreached state = "reached by no test"
)

type outcome struct {
	mutant
	state
}

// listed is what go list says about a package.
type listed struct {
	Dir, ImportPath, Name string
	GoFiles               []string
}

func list(path string) (l listed, err error) {
	out, err := exec.Command("go", "list", "-json=Dir,ImportPath,Name,GoFiles", path).Output()
	if err != nil {
		return l, fmt.Errorf("go list %s: %w", path, err)
	}
	return l, json.Unmarshal(out, &l)
}

// build writes the instrumented package and compiles its tests, and those of the other
// packages. It leaves out the mutants that do not compile.
func build(path string, others []string, work string) (*pkg, error) {
	listed, err := list(path)
	if err != nil {
		return nil, err
	}
	p := &pkg{path: path, dir: listed.Dir, work: work}
	skip := map[int]bool{}
	for range 20 {
		overlay := map[string]string{}
		next := 0
		p.mutants = nil
		for _, name := range listed.GoFiles {
			text, mutants, err := instrument(filepath.Join(p.dir, name), &next, skip)
			if err != nil {
				return nil, err
			}
			p.mutants = append(p.mutants, mutants...)
			overlay[filepath.Join(p.dir, name)] = filepath.Join(work, name)
			if err := os.WriteFile(filepath.Join(work, name), text, 0o600); err != nil {
				return nil, err
			}
		}
		added := filepath.Join(work, "mutants.go")
		overlay[filepath.Join(p.dir, "zz_mutants.go")] = added
		if err := os.WriteFile(added, fmt.Appendf(nil, helpers, listed.Name), 0o600); err != nil {
			return nil, err
		}
		config, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(work, "overlay.json"), config, 0o600); err != nil {
			return nil, err
		}
		out, err := p.compile(listed.ImportPath, append([]string{path}, others...))
		if err == nil {
			return p, nil
		}
		if more := p.uncompilable(out); len(more) > 0 {
			for _, id := range more {
				skip[id] = true
			}
			continue
		}
		return nil, fmt.Errorf("go test -c %s: %w\n%s", path, err, out)
	}
	return nil, fmt.Errorf("%s does not compile with its mutants", path)
}

// compile builds the test binaries.
func (p *pkg) compile(importPath string, paths []string) ([]byte, error) {
	p.suites = nil
	for i, path := range paths {
		l, err := list(path)
		if err != nil {
			return nil, err
		}
		s := suite{l.Dir, filepath.Join(p.work, fmt.Sprintf("test%d", i))}
		out, err := exec.Command("go", "test", "-c", "-vet=off", "-gcflags="+importPath+"=-e", "-overlay", filepath.Join(p.work, "overlay.json"), "-o", s.binary, path).CombinedOutput()
		if err != nil {
			return out, err
		}
		p.suites = append(p.suites, s)
	}
	return nil, nil
}

var compileError = regexp.MustCompile(`(?m)^(\S+\.go):(\d+):\d+: (.*)$`)

// uncompilable returns the mutants that errors of the compiler are about.
func (p *pkg) uncompilable(out []byte) (ids []int) {
	for _, m := range compileError.FindAllStringSubmatch(string(out), -1) {
		line, _ := strconv.Atoi(m[2])
		for _, mutant := range p.mutants {
			if filepath.Base(mutant.file) != filepath.Base(m[1]) {
				continue
			}
			if mutant.line == line || m[3] == "missing return" && mutant.kind == noReturn && mutant.last == line {
				ids = append(ids, mutant.id)
			}
		}
	}
	return ids
}

// trace runs each test alone, to find out how long it takes and which mutants it
// reaches.
func (p *pkg) trace(limit time.Duration) error {
	for _, s := range p.suites {
		if err := p.traceSuite(s, limit); err != nil {
			return err
		}
	}
	// The quick ones first: most mutants die at once.
	slices.SortStableFunc(p.tests, func(a, b test) int { return cmp.Compare(a.took, b.took) })
	return nil
}

func (p *pkg) traceSuite(s suite, limit time.Duration) error {
	out, err := s.run(context.Background(), 0, "", "-test.list", ".")
	if err != nil {
		return fmt.Errorf("%s: list of tests: %w\n%s", p.path, err, out)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if !regexp.MustCompile(`^(Test|Fuzz|Example)`).MatchString(name) {
			continue
		}
		file := filepath.Join(p.work, "trace")
		os.Remove(file)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		began := time.Now()
		out, err := s.run(ctx, 0, file, "-test.short", "-test.run", "^"+name+"$")
		cancel()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			fmt.Fprintf(os.Stderr, "%s: %s takes longer than %s and is left out\n", p.path, name, limit)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %s fails without a mutant: %w\n%s", p.path, name, err, out)
		}
		t := test{suite: s, name: name, took: time.Since(began), reaches: map[int]bool{}}
		seen, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for id := range strings.FieldsSeq(string(seen)) {
			n, _ := strconv.Atoi(id)
			t.reaches[n] = true
		}
		if len(t.reaches) > 0 {
			p.tests = append(p.tests, t)
		}
	}
	return nil
}

func (s suite) run(ctx context.Context, id int, trace string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(id), "MUTANT_TRACE="+trace)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// judge runs the tests that reach a mutant until one fails, or takes more than ten
// times as long as before.
func (p *pkg) judge(m mutant) outcome {
	reached := false
	for _, s := range p.suites {
		mine := slices.DeleteFunc(slices.Clone(p.tests), func(t test) bool { return t.suite != s || !t.reaches[m.id] })
		for batch := range slices.Chunk(mine, 8) {
			reached = true
			var names []string
			limit := 20 * time.Second
			for _, t := range batch {
				names = append(names, t.name)
				limit += 10 * t.took
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			_, err := s.run(ctx, m.id, "", "-test.short", "-test.failfast", "-test.run", "^("+strings.Join(names, "|")+")$")
			cancel()
			switch {
			case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
				return outcome{m, slow}
			case err != nil:
				return outcome{m, killed}
			}
		}
	}
	if !reached {
		return outcome{m, unreached}
	}
	return outcome{m, survived}
}

// judgeAll judges the chosen mutants, several at a time.
func (p *pkg) judgeAll(parallel int, chosen func(int, mutant) bool) []outcome {
	var mine []mutant
	for i, m := range p.mutants {
		if chosen(i, m) {
			mine = append(mine, m)
		}
	}
	all := make([]outcome, len(mine))
	var wait sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i, m := range mine {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			all[i] = p.judge(m)
		})
	}
	wait.Wait()
	return all
}
