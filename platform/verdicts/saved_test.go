package verdicts_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// process is a store of another process, with another program if there is a name.
func (c *scene) process(program string) *verdicts.Store {
	return verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: c.time, Program: program})
}

// down makes the registry answer nobody.
func (c *scene) down() {
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
}

// outlives lets a process accept an image for a tenant and reject another one, and returns what it saves.
// The registry is down then.
func outlives(t *testing.T, c *scene, rules string) (good, bad v1.Descriptor, tenant authn.AuthConfig, raw []byte) {
	t.Helper()
	_, r := c.release(prooftest.Kinds...)
	plain := prooftest.NewStore(t)
	plain.Tar = []byte("another image")
	bad, _ = plain.Image("bad")
	c.push(plain)
	c.password, tenant = "of a tenant", authn.AuthConfig{Username: "tenant", Password: "of a tenant"}
	c.store = c.process("a program")
	c.use(rules)
	c.expect("accepted", c.question(r.Image, tenant), verify.Accepted)
	c.expect("rejected", c.question(bad, tenant), verify.Rejected)
	raw, err := c.store.Save(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	c.down()
	return r.Image, bad, tenant, raw
}

// TestOutlivesTheProcess: what was accepted counts after all processes ended while the registry is down, for
// those who could read the image.
func TestOutlivesTheProcess(t *testing.T) {
	c := newScene(t)
	good, bad, tenant, raw := outlives(t, c, rules)
	if bytes.Contains(unpacked(t, raw), []byte(tenant.Password)) {
		t.Error("credentials are saved")
	}
	c.later(20 * time.Minute)
	for range 2 { // it outlives the second process, too, though nobody asked there
		c.store = c.process("a program")
		if n, err := c.store.Restore(raw); err != nil || n != 1 {
			t.Fatalf("restored %d images: %v", n, err)
		}
		c.use(rules)
		var err error
		if raw, err = c.store.Save(1 << 20); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup // pods that come at once
	for range 50 {
		all.Go(func() {
			if a := c.store.Ask(t.Context(), c.question(good, tenant)); a.Decision.Outcome != verify.Accepted || !a.Known {
				t.Errorf("got %s: %s", a.Decision.Outcome, a.Decision.Reason)
			}
		})
	}
	all.Wait()
	for what, q := range map[string]verdicts.Question{
		"anonymously": c.question(good), "with another tenant's secret": c.question(good, authn.AuthConfig{Username: "tenant", Password: "another"}), "an image that was rejected": c.question(bad, tenant),
	} {
		c.expect(what, q, verify.Undecided)
	}
	for age, want := range map[time.Duration]verify.Outcome{24*time.Hour - time.Minute: verify.Accepted, 24 * time.Hour: verify.Undecided} {
		at := c.time().Add(-age)
		c.store = c.process("a program")
		if _, err := c.store.Restore(edited(t, raw, func(i map[string]any) {
			i["read"] = at
			for reader := range i["readers"].(map[string]any) {
				i["readers"].(map[string]any)[reader] = at
			}
		})); err != nil {
			t.Fatal(err)
		}
		c.use(rules)
		c.expect("after "+age.String(), c.question(good, tenant), want)
	}
	c.store = c.process("a program")
	if _, err := c.store.Restore(raw); err != nil {
		t.Fatal(err)
	}
	c.use(rules)
	c.later(time.Hour)
	c.expect("when a certificate of the trust root has ended", c.question(good, tenant), verify.Undecided)
}

// edited returns what was saved with another image in it.
func edited(t *testing.T, raw []byte, edit func(image map[string]any)) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(unpacked(t, raw), &doc); err != nil {
		t.Fatal(err)
	}
	edit(doc["images"].([]any)[0].(map[string]any))
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return packed(text)
}

func unpacked(t *testing.T, raw []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func packed(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text)
	_ = w.Close()
	return b.Bytes()
}

// TestOutlivesNothingElse: an acceptance counts under nothing else than what it rests on.
func TestOutlivesNothingElse(t *testing.T) {
	conditional := strings.Replace(rules, "      accept:", "      conditions: [{expression: 'true', message: never}]\n      accept:", 1)
	for what, tt := range map[string]struct {
		program, before, after string
		roots                  func(*scene) []*trust.Root
		later                  time.Duration
		lists                  bool
	}{
		"a list of what is no longer trusted": {program: "a program", lists: true},
		"another program":                     {program: "another program"},
		"a program that saves nothing":        {program: ""},
		"another source":                      {program: "a program", after: strings.Replace(rules, "team/app}", "team/other}", 1)},
		"another trust root":                  {program: "a program", roots: func(c *scene) []*trust.Root { return []*trust.Root{prooftest.New(t).Root()} }},
		"one more trust root":                 {program: "a program", roots: func(c *scene) []*trust.Root { return []*trust.Root{c.p.Root(), prooftest.New(t).Root()} }},
		"a clock that went back":              {program: "a program", later: -time.Hour},
		"conditions":                          {program: "a program", before: conditional, after: conditional},
		"conditions since":                    {program: "a program", after: conditional},
	} {
		c := newScene(t)
		before, after := tt.before, tt.after
		if before == "" {
			before = rules
		}
		if after == "" {
			after = rules
		}
		good, _, tenant, raw := outlives(t, c, before)
		c.store = c.process(tt.program)
		if _, err := c.store.Restore(raw); err != nil {
			t.Fatal(err)
		}
		var roots []*trust.Root
		if tt.roots != nil {
			roots = tt.roots(c)
		}
		c.use(after, roots...)
		c.later(tt.later)
		if tt.lists {
			c.store.Distrust(distrust.Lists{distrusttest.New(t).Known("shop")})
		}
		a := c.store.Ask(t.Context(), c.question(good, tenant))
		if a.Decision.Outcome == verify.Accepted {
			t.Errorf("%s: it was accepted", what)
		}
		t.Logf("%s: %s", what, a.Decision.Reason)
	}
}

// TestRestoredOnce: when this process has read an image, nothing counts that another one saved about it.
func TestRestoredOnce(t *testing.T) {
	c := newScene(t)
	good, _, tenant, raw := outlives(t, c, rules)
	c.store = c.process("a program")
	if _, err := c.store.Restore(edited(t, raw, func(i map[string]any) { i["readers"].(map[string]any)[""] = c.time() })); err != nil { // everybody could read it
		t.Fatal(err)
	}
	c.use(rules)
	q := c.question(good, tenant)
	c.guard.Store(nil)
	q.News = true
	c.expect("read again", q, verify.Accepted)
	c.down()
	c.expect("by somebody who has not read it since", c.question(good), verify.Undecided)
}

// TestRestoreRefuses: what is damaged or too much is not restored.
func TestRestoreRefuses(t *testing.T) {
	c := newScene(t)
	good, _, tenant, raw := outlives(t, c, rules)
	bomb := packed(make([]byte, 256<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if n, err := c.process("a program").Restore(bomb); err == nil || n != 0 {
		t.Errorf("a bomb: restored %d, %v", n, err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 400<<20 {
		t.Errorf("%d bytes that unpack to 256 MiB took %d MiB", len(bomb), (after.TotalAlloc-before.TotalAlloc)>>20)
	}
	for what, bytes := range map[string][]byte{
		"nothing": nil, "garbage": []byte("garbage"), "the half": raw[:len(raw)/2], "no object": packed([]byte("[]")), "an unknown member": packed([]byte(`{"program":"a program","more":1}`)),
		"twice": packed([]byte(`{"program":"x","program":"a program"}`)), "no salt": packed([]byte(`{"program":"a program","images":[]}`)), "too much": packed(make([]byte, 33<<20)),
		"too many": packed(fmt.Appendf(nil, `{"program":"a program","salt":"%s","images":[%snull]}`, strings.Repeat("A", 43)+"=", strings.Repeat("null,", 50_000))),
	} {
		c.store = c.process("a program")
		if n, err := c.store.Restore(bytes); err == nil || n != 0 {
			t.Errorf("%s: restored %d, %v", what, n, err)
		}
		c.use(rules)
		c.expect(what, c.question(good, tenant), verify.Undecided)
	}
}

// TestSaveIsBounded: of too many images, those are saved that were asked for last.
func TestSaveIsBounded(t *testing.T) {
	c := newScene(t)
	c.store = c.process("a program")
	c.use(rules)
	var images []v1.Descriptor
	for n := range 30 {
		s := prooftest.NewStore(t)
		s.Tar = []byte(fmt.Sprint(n))
		r := c.p.Release(s)
		r.Attach(prooftest.Kinds...)
		c.push(s)
		c.expect("one", c.question(r.Image), verify.Accepted)
		images = append(images, r.Image)
	}
	all, err := c.store.Save(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d images take %d bytes", len(images), len(all))
	half, err := c.store.Save(len(all) / 2)
	if err != nil || len(half) > len(all)/2 {
		t.Fatalf("got %d bytes, %v", len(half), err)
	}
	c.store = c.process("a program")
	n, err := c.store.Restore(half)
	if err != nil || n < 8 || n > 25 {
		t.Fatalf("restored %d images: %v", n, err)
	}
	shop.Use(t, c.store, "test", c.host, rules, c.p.Root())
	c.down()
	c.expect("the last one", c.question(images[29]), verify.Accepted)
	c.expect("the first one", c.question(images[0]), verify.Undecided)
}

// TestSavedRoom: docs/admission.md says that about 10,000 images have room in what the API server takes.
func TestSavedRoom(t *testing.T) {
	c := newScene(t)
	_, _, _, raw := outlives(t, c, rules)
	random := func(n int) string { b := make([]byte, n); _, _ = rand.Read(b); return fmt.Sprintf("%x", b) }
	many := edited(t, raw, func(i map[string]any) { i["repository"] = "REPOSITORY" })
	var doc struct {
		Program string           `json:"program"`
		Salt    []byte           `json:"salt"`
		Images  []map[string]any `json:"images"`
	}
	if err := json.Unmarshal(unpacked(t, many), &doc); err != nil {
		t.Fatal(err)
	}
	one, err := json.Marshal(doc.Images[0])
	if err != nil {
		t.Fatal(err)
	}
	doc.Images = nil
	for n := range 10_000 { // three images of each repository, of two policies, for one of 50 secrets
		var i map[string]any
		if err := json.Unmarshal(one, &i); err != nil {
			t.Fatal(err)
		}
		digest := "sha256:" + random(32)
		i["repository"], i["digest"] = fmt.Sprintf("registry.example.com/team%d/app%d", n/30, n/3), digest
		i["readers"] = map[string]any{fmt.Sprintf("%032d", n%50): c.time()}
		v := i["verdicts"].([]any)[0].(map[string]any)
		v["digest"], v["commit"], v["source"] = digest, random(20), fmt.Sprintf("https://git.example.com/team%d/app%d", n/30, n/3)
		i["verdicts"] = []any{v, v}
		doc.Images = append(doc.Images, i)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	c.store = c.process("a program")
	if n, err := c.store.Restore(packed(text)); err != nil || n != 10_000 {
		t.Fatalf("restored %d: %v", n, err)
	}
	c.use(rules)
	saved, err := c.store.Save(900 << 10)
	if err != nil {
		t.Fatal(err)
	}
	c.store = c.process("a program")
	n, err := c.store.Restore(saved)
	if t.Logf("%d images in %d bytes", n, len(saved)); err != nil || n < 9000 {
		t.Errorf("%d images have room: %v", n, err)
	}
}
