package verdicts_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// helper writes docker-credential-NAME, a program in sh, into a directory that is then in PATH.
func helper(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

const answers = `echo '{"ServerURL":"x","Username":"robot","Secret":"s3cret"}'`

// TestHelpers: a program is asked for the host on standard input and with "get" alone, gets the
// variables of clouds and no others, once for all who wait; and what is no answer is an error without
// what it wrote.
func TestHelpers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	t.Setenv("AWS_REGION", "there")
	t.Setenv("COLOPHON_SECRET", "hush")
	helper(t, dir, "good", "echo run >> "+dir+"/runs; cat > "+dir+"/host; echo $* > "+dir+"/argv; env > "+dir+"/env; sleep 0.1; "+answers)
	helper(t, dir, "token", `echo '{"Username":"<token>","Secret":"s3cret"}'`)
	helper(t, dir, "fails", "echo s3cret; echo s3cret >&2; exit 3")
	helper(t, dir, "empty", `echo '{"Username":"robot"}'`)
	helper(t, dir, "twice", `echo '{"Username":"a","Username":"b","Secret":"s3cret"}'`)
	helper(t, dir, "endless", "yes s3cret")
	helper(t, dir, "hangs", "sleep 1000 & echo $! > "+dir+"/child; wait")
	programs := verdicts.HelperPrograms{"*.dkr.example.com": "good", "token.dkr.example.com": "token"}
	for _, name := range []string{"fails", "empty", "twice", "endless", "hangs"} {
		programs[name+".example.com"] = name
	}
	h, err := programs.Find()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got, err := h.Login(t.Context(), "A.dkr.example.com", "shop"); err != nil || got != (authn.AuthConfig{Username: "robot", Password: "s3cret"}) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	all.Wait()
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if read("runs") != "run\n" || read("host") != "a.dkr.example.com\n" || read("argv") != "get\n" || !strings.Contains(read("env"), "AWS_REGION=there") || strings.Contains(read("env"), "hush") {
		t.Errorf("got runs %q, host %q, arguments %q, environment %q", read("runs"), read("host"), read("argv"), read("env"))
	}
	if got, err := h.Login(t.Context(), "token.dkr.example.com", "shop"); err != nil || got != (authn.AuthConfig{IdentityToken: "s3cret"}) {
		t.Errorf("a token: got %v, %v", got, err)
	}
	for name, want := range map[string]string{"fails": "exit status 3", "empty": "expected an object", "twice": "expected an object", "endless": "at most 65536 bytes", "hangs": "within 5s"} {
		start := time.Now()
		got, err := h.Login(t.Context(), name+".example.com", "shop")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(fmt.Sprint(got, err), "s3cret") || time.Since(start) > await.Patience {
			t.Errorf("%s: got %v, %v after %s, want %q", name, got, err, time.Since(start), want)
		}
	}
	child := strings.TrimSpace(read("child"))
	await.True(t, "what a program started ends with it", func() bool {
		state, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	})
	impatient, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := h.Login(impatient, "b.dkr.example.com", "shop"); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("who stops waiting: got %v", err)
	}
}

// TestHelpersTakeTurns: a namespace whose registries have slow programs keeps no other one waiting for
// all of them, and cannot make them queue without end.
func TestHelpersTakeTurns(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says := " | dd of=" + log + " oflag=append conv=notrunc,nocreat status=none; " // programs run on after the test, and must not create the file again
	helper(t, dir, "slow", "echo begins"+says+"sleep 2; echo ends"+says+answers)
	helper(t, dir, "fast", answers)
	h, err := verdicts.HelperPrograms{"*.slow.example.com": "slow", "*.fast.example.com": "fast"}.Find()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var refused, turns atomic.Int64
	for n := range 100 {
		go func() {
			if _, err := h.Login(ctx, fmt.Sprintf("r%d.slow.example.com", n), "tenant"); err != nil && strings.Contains(err.Error(), "same namespace") {
				refused.Add(1)
			} else {
				turns.Add(1)
			}
		}()
	}
	// Of 100, 2 run and 32 wait; each turn that is over makes room for another.
	waitFor(t, func() bool { return refused.Load()+turns.Load() >= 66 })
	if refused.Load() == 0 {
		t.Error("they queue without end")
	}
	// Measured in turns of the slow ones: if all waited in one row, 34 turns would be over first.
	before := turns.Load()
	for n := range 3 {
		if _, err := h.Login(t.Context(), fmt.Sprintf("r%d.fast.example.com", n), "shop"); err != nil {
			t.Error(err)
		}
	}
	if waited := turns.Load() - before; waited > 8 {
		t.Errorf("another namespace waited for %d turns", waited)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	running, most := 0, 0
	for line := range strings.Lines(string(raw)) {
		if line == "begins\n" {
			running++
		} else {
			running--
		}
		most = max(most, running)
	}
	if most > 2 {
		t.Errorf("%d processes for one namespace at once, want 2 at most", most)
	}
	// A host that two wait for comes with the first turn of either.
	before = turns.Load()
	if _, err := h.Login(t.Context(), "r99.slow.example.com", "shop"); err != nil {
		t.Error(err)
	}
	if waited := turns.Load() - before; waited > 10 {
		t.Errorf("it waited for %d turns of the other one", waited)
	}
}

// TestHelperPrograms: a pattern that could stand for registries of strangers is refused, as is a
// program that is not there.
func TestHelperPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	many := verdicts.HelperPrograms{}
	for i := range 65 {
		many[fmt.Sprintf("r%d.example.com", i)] = "x"
	}
	for what, p := range map[string]verdicts.HelperPrograms{
		"everything": {"*": "x"}, "every .com": {"*.com": "x"}, "every name in a country": {"a.*.com": "x"}, "a part": {"a.ex*.com": "x"}, "a class": {"a.[a-z].com": "x"},
		"a path": {"a.example.com/x": "x"}, "a program by path": {"a.example.com": "/bin/sh"}, "up": {"a.example.com": "../x"}, "case": {"A.example.com": "x"}, "empty": {"": "x"},
		"a bad class": {"[.example.com": "x"}, "many": many,
	} {
		if err := p.Check(); err == nil {
			t.Errorf("%s: it was not refused", what)
		}
	}
	good := verdicts.HelperPrograms{"*.dkr.ecr.*.amazonaws.com": "ecr-login", "gcr.io": "gcr", "*.azurecr.io": "acr-env", "127.0.0.1:5000": "x"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if _, err := good.Find(); err == nil || !strings.Contains(err.Error(), "not in PATH") {
		t.Errorf("got %v", err)
	}
	for host, want := range map[string]bool{
		"1.dkr.ecr.eu-west-1.amazonaws.com": true, "1.dkr.ecr.eu-west-1.amazonaws.com:443": false, "dkr.ecr.eu-west-1.amazonaws.com": false,
		"1.dkr.ecr.eu.west.amazonaws.com": false, "1.dkr.ecr.eu-west-1.amazonaws.com.evil.example": false,
	} {
		if verdicts.MatchHost("*.dkr.ecr.*.amazonaws.com", host) != want {
			t.Errorf("%s: want %v", host, want)
		}
	}
}

// TestHelperReads: an image that only a program's credentials may read is read with them, whoever asks;
// a pod's own credentials come first; and if the program fails, nobody knows.
func TestHelperReads(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.password = "s3cret"
	helper(t, dir, "ours", "echo run >> "+dir+"/runs; "+answers)
	helper(t, dir, "broken", "exit 1")
	use := func(name string) {
		h, err := verdicts.HelperPrograms{c.host: name}.Find()
		if err != nil {
			t.Fatal(err)
		}
		c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: c.time, Helpers: h})
		c.use(rules)
	}
	use("ours")
	c.expect("without credentials", c.question(r.Image), verify.Accepted)
	c.expect("with wrong ones", c.question(r.Image, authn.AuthConfig{Username: "x", Password: "guess"}), verify.Accepted)
	if digest, err := c.store.Resolve(t.Context(), c.host+"/team/app", "v1.2.0", "shop", nil); err != nil || digest != r.Image.Digest.String() {
		t.Errorf("a tag: got %s, %v", digest, err)
	}
	use("broken")
	if a := c.expect("the program fails", c.question(r.Image), verify.Undecided); !strings.Contains(a.Decision.Reason, "docker-credential-broken has no credentials") {
		t.Errorf("got %q", a.Decision.Reason)
	}
	c.expect("own credentials", c.question(r.Image, authn.AuthConfig{Username: "x", Password: c.password}), verify.Accepted)
}
