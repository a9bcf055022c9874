package investigate

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
	"github.com/colophon-build/colophon/trust"
)

const logURL = "https://log.example.com"

// testLog is a log with its index, and the archive of its entries.
type testLog struct {
	t          testing.TB
	log, index *logtest.Log
	m          prefix.Map
	state      *search.State
	bundles    map[string][]byte // by leaf hash
	asked      atomic.Int64
	bend       func(raw []byte) []byte
}

func newTestLog(t testing.TB) *testLog {
	return &testLog{t: t, log: logtest.New("log.example.com", 0), index: logtest.New(search.IndexOrigin("log.example.com"), 0), bundles: map[string][]byte{}}
}

// add logs what bundles signed.
func (l *testLog) add(bundles ...[]byte) {
	l.t.Helper()
	for _, raw := range bundles {
		b, err := bundle.Parse(raw)
		if err != nil {
			l.t.Fatal(err)
		}
		body, err := b.Record(nil)
		if err != nil {
			l.t.Fatal(err)
		}
		leaf := tlog.LeafHash(body)
		l.bundles[hex.EncodeToString(leaf[:])] = raw
		l.enter(body)
	}
	l.settle()
}

func (l *testLog) enter(bodies ...[]byte) {
	var err error
	if l.m, err = search.Extend(l.m, l.log.Size(), bodies); err != nil {
		l.t.Fatal(err)
	}
	for _, b := range bodies {
		l.log.Add(b)
	}
}

// settle enters the root of the map in the index log.
func (l *testLog) settle() {
	size := l.log.Size()
	leaf := search.Leaf{Root: l.m.Root(), Keys: l.m.Len(), Checkpoint: string(l.log.Signed(size))}.Bytes()
	l.index.Add(leaf)
	l.state = &search.State{Map: l.m, Leaf: leaf, Indexed: l.log.At(size), Index: l.index.At(l.index.Size()), IndexCheckpoint: l.index.Signed(l.index.Size())}
}

func (l *testLog) Name() string                     { return logURL }
func (l *testLog) Keys() (log, index note.Verifier) { return l.log.Verifier(), l.index.Verifier() }

func (l *testLog) Page(ctx context.Context, q search.Question) ([]byte, error) {
	l.asked.Add(1)
	a, err := l.state.Answer(ctx, q, search.MaxPage, l.log, l.index, l.log.At(l.log.Size()), l.log.Signed(l.log.Size()))
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(a)
	if l.bend != nil {
		raw = l.bend(raw)
	}
	return raw, err
}

func (l *testLog) Bundle(_ context.Context, leaf string) ([]byte, error) {
	return l.bundles[leaf], nil
}

func (l *testLog) logs(name string) (log, index note.Verifier, ok bool) {
	return l.log.Verifier(), l.index.Verifier(), name == logURL
}

// memory is what a platform remembers.
type memory struct {
	Platform
	runs []api.Run
	err  error
}

func (m memory) Runs(_ context.Context, f api.RunFilter) (out []api.Run, err error) {
	for _, r := range m.runs {
		if cmp.Or(f.Commit, r.Commit) == r.Commit && cmp.Or(f.Source, r.Source) == r.Source {
			out = append(out, r)
		}
	}
	return out, m.err
}

// TestForgedHistory: anybody can log a signature with a certificate of their own, which says that the tag
// led elsewhere. That breaks no link.
func TestForgedHistory(t *testing.T) {
	s := newScene(t)
	forged, commit := s.commit("1"), s.commit("2")
	s.git("tag", "v1.2.0")
	l := newTestLog(t)
	shown, platform := s.store, s.platform
	s.store, s.platform = prooftest.NewStore(t), prooftest.New(t) // of whoever forges it
	r := s.release("refs/tags/v1.2.0", forged)
	r.Attach(prooftest.Kinds...)
	l.add(s.blob(r.Blobs[prooftest.Kinds[0]]))
	s.store, s.platform = shown, platform
	r = s.release("refs/tags/v1.2.0", commit)
	r.Attach(prooftest.Kinds...)
	l.add(s.blob(r.Blobs[prooftest.Kinds[0]]))
	in := s.inquiry()
	maps.Copy(in.Askers, LogAskers(l, l, nil))
	c := s.run(in)
	if h := c.Answer(AskHistory).Facts.History; c.Conclusion.State != Whole || len(h) != 1 || h[0].Commit != commit {
		t.Errorf("got %q, %+v", c.Conclusion.Line, h)
	}
	all, err := Recheck(t.Context(), c, in.Evidence, in.Trust, l.logs)
	if err != nil || slices.ContainsFunc(all, func(x Checked) bool { return x.Result == Misleading }) {
		t.Errorf("got %+v, %v", all, err)
	}
	f := find(c, AskSameCommit).Facts.Found
	f.Entries[0].Vouched = !f.Entries[0].Vouched
	c.Conclusion = Conclude(c)
	all, err = Recheck(t.Context(), c, in.Evidence, in.Trust, l.logs)
	if err == nil && !slices.ContainsFunc(all, func(x Checked) bool { return x.Result == Misleading }) {
		t.Error("a case that says otherwise who vouches was not found")
	}
}

// TestBlastRadius: what else a stolen identity signed, and where a tag led, with proof.
func TestBlastRadius(t *testing.T) {
	s := newScene(t)
	first, second := s.commit("1"), s.commit("2")
	s.git("tag", "v1.2.0")
	l := newTestLog(t)
	digests := []string{}
	sign := func(commit, ref string) {
		r := s.release(ref, commit)
		r.Attach(prooftest.Kinds...)
		digests = append(digests, r.Image.Digest.String())
		for _, kind := range prooftest.Kinds {
			l.add(s.blob(r.Blobs[kind]))
		}
	}
	shown := s.store
	s.store = prooftest.NewStore(t) // the image of the other commit is elsewhere
	sign(first, "refs/tags/v1.2.0") // the tag led to that before
	s.store = shown
	sign(second, "refs/tags/v1.2.0")
	in := s.inquiry()
	platform := memory{runs: []api.Run{{ID: "1", State: api.Failed, Source: s.uri, Ref: "refs/tags/v1.2.0", Commit: strings.Repeat("e", 40), Asked: s.platform.Now.Add(-time.Hour), Actor: "eve"}}}
	maps.Copy(in.Askers, LogAskers(l, l, platform))
	in.Askers[AskReleases] = ReleasesAsker(platform, "the platform")
	c := s.run(in)
	if c.Conclusion.State != Broken || !strings.Contains(c.Conclusion.Line, "refs/tags/v1.2.0 led to 2 other commits") {
		t.Errorf("got %q", c.Conclusion.Line)
	}
	if h := c.Answer(AskHistory).Facts.History; len(h) != 3 || h[0].Commit != first || h[1].Commit != second || h[2].Entry != nil {
		t.Errorf("got %+v", h)
	}
	f := c.Answer(AskSameIdentity).Facts.Found
	if f == nil || f.Total != int64(l.log.Size()) || len(f.Entries[0].About) != 1 || !slices.Contains(digests, f.Entries[0].About[0]) {
		t.Fatalf("got %+v", f)
	}
	if n := c.Answer(AskSameCommit).Facts.Found.Total; n != 4 {
		t.Errorf("got %d entries of the commit", n)
	}
	check := func(c *Case) ([]Checked, error) {
		return Recheck(t.Context(), c, in.Evidence, []*trust.Root{s.platform.Root()}, l.logs)
	}
	all, err := check(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		if a := c.Answer(x.ID); a.Facts.Found != nil && x.Result != Recomputed || x.Result == Misleading {
			t.Errorf("%+v", x)
		}
	}
	for name, bend := range map[string]func(c *Case){
		"an entry less": func(c *Case) { f := find(c, AskSameIdentity).Facts.Found; f.Entries = f.Entries[1:] },
		"about another image": func(c *Case) {
			find(c, AskSameIdentity).Facts.Found.Entries[0].About[0] = "sha256:" + strings.Repeat("0", 64)
		},
		"fewer in all":           func(c *Case) { find(c, AskSameCommit).Facts.Found.Total = 1 },
		"another identity":       func(c *Case) { *find(c, AskSameIdentity).Facts.Found = *find(c, AskSameCommit).Facts.Found },
		"a move less":            func(c *Case) { h := find(c, AskHistory); h.Facts.History = h.Facts.History[1:] },
		"a time of its own":      func(c *Case) { find(c, AskHistory).Facts.History[0].Time = time.Unix(1, 0) },
		"an entry of a platform": func(c *Case) { n := int64(1); find(c, AskHistory).Facts.History[2].Entry = &n },
		"pages of another":       func(c *Case) { find(c, AskSameIdentity).Evidence = find(c, AskSameCommit).Evidence },
		"no pages":               func(c *Case) { find(c, AskSameIdentity).Facts.Found.Pages = nil },
	} {
		raw, _ := json.Marshal(c)
		bent, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		bend(bent)
		bent.Conclusion = Conclude(bent)
		all, err := check(bent)
		if err == nil && !slices.ContainsFunc(all, func(x Checked) bool { return x.Result == Misleading }) {
			t.Errorf("%s: nothing was found", name)
		}
	}

	// From the other end.
	for _, subject := range []Subject{{Kind: Commit, Name: first}, {Kind: Identity, Name: prooftest.Builder}, {Kind: Builder, Name: prooftest.Builder}} {
		in := &Inquiry{Subject: subject, At: s.platform.Now, Evidence: &Evidence{}, Askers: LogAskers(l, l, nil)}
		seen := []string{}
		in.Askers[AskRunning] = func(_ context.Context, in *Inquiry) (Reply, error) {
			seen = in.Digests()
			return Reply{Facts: Facts{Running: []Running{{Where: "pod", Digest: digests[0]}}}}, nil
		}
		c := s.run(in)
		if c.Conclusion.State != Listed || !strings.Contains(c.Conclusion.Line, "1 images known") && !strings.Contains(c.Conclusion.Line, "2 images known") || len(seen) == 0 {
			t.Errorf("%s: got %q, %v", subject.Kind, c.Conclusion.Line, seen)
		}
	}
	late := s.platform.Now.Add(time.Hour)
	in = &Inquiry{Subject: Subject{Kind: Identity, Name: prooftest.Builder, Since: &late}, At: s.platform.Now, Evidence: &Evidence{}, Askers: LogAskers(l, l, nil)}
	c = s.run(in)
	if f := c.Answer(AskSameIdentity).Facts.Found; len(f.Entries) != 0 || f.Total == 0 {
		t.Errorf("--since: got %d entries of %d", len(f.Entries), f.Total)
	}
	if !strings.Contains(c.Conclusion.Line, ": 0 log entries") || strings.Contains(strings.Join(c.Conclusion.Do, " "), "look at the") {
		t.Errorf("--since: entries of other times were counted: %q, %q", c.Conclusion.Line, c.Conclusion.Do)
	}
	c.Answer(AskSameIdentity).Facts.Found.From = 1
	if line := Conclude(c).Line; !strings.Contains(line, "at least 0 log entries") {
		t.Errorf("--since, and not all were read: got %q", line)
	}
}

// TestLyingLog: an answer that proves nothing answers nothing.
func TestLyingLog(t *testing.T) {
	s := newScene(t)
	l := newTestLog(t)
	r := s.release("refs/tags/v1.2.0", s.commit("1"))
	r.Attach(prooftest.Kinds...)
	l.add(s.blob(r.Blobs[prooftest.Kinds[0]]))
	for name, bend := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return nil },
		"another": func(raw []byte) []byte { return []byte(strings.Replace(string(raw), `"proof":"`, `"proof":"AAAA`, 1)) },
		"no entries": func(raw []byte) []byte {
			var a search.Answer
			json.Unmarshal(raw, &a)
			a.Entries = nil
			raw, _ = json.Marshal(a)
			return raw
		},
		"more to come": func(raw []byte) []byte {
			var a search.Answer
			json.Unmarshal(raw, &a)
			n := int64(1)
			a.To = &n
			raw, _ = json.Marshal(a)
			return raw
		},
	} {
		l.bend = bend
		in := &Inquiry{Subject: Subject{Kind: Identity, Name: prooftest.Builder}, At: s.platform.Now, Evidence: &Evidence{}, Askers: LogAskers(l, nil, nil)}
		if a := s.run(in).Answer(AskSameIdentity); a.Outcome != Failed {
			t.Errorf("%s: got %s, %+v", name, a.Outcome, a.Facts.Found)
		}
	}
	// An archive that lies about an entry gives it no meaning; one that fails is no answer.
	l.bend = nil
	other := s.release("refs/tags/v1.2.0", s.commit("2"))
	other.Attach(prooftest.Kinds...)
	for leaf := range l.bundles {
		l.bundles[leaf] = s.blob(other.Blobs[prooftest.Kinds[0]])
	}
	in := &Inquiry{Subject: Subject{Kind: Identity, Name: prooftest.Builder}, At: s.platform.Now, Evidence: &Evidence{}, Askers: LogAskers(l, l, nil)}
	if a := s.run(in).Answer(AskSameIdentity); a.Outcome != Answered || a.Facts.Found.Entries[0].About != nil {
		t.Errorf("got %s, %+v", a.Outcome, a.Facts.Found)
	}
	in.Askers = LogAskers(l, failing{}, nil)
	if a := s.run(in).Answer(AskSameIdentity); a.Outcome != Failed || !strings.Contains(a.Why, "no disk") {
		t.Errorf("got %s, %s", a.Outcome, a.Why)
	}
}

type failing struct{}

func (failing) Bundle(context.Context, string) ([]byte, error) { return nil, errors.New("no disk") }

// manyEntries is a log of n entries by one identity, all of one repository.
func manyEntries(t testing.TB, s *scene, n int) *testLog {
	l := newTestLog(t)
	r := s.release("refs/heads/main", s.commit("1"))
	var body []byte
	{
		b, err := bundle.Parse(s.platform.Sign(r.Signer(), r.Statement(prooftest.Kinds[1])))
		if err != nil {
			t.Fatal(err)
		}
		if body, err = b.Record(nil); err != nil {
			t.Fatal(err)
		}
	}
	at := strings.Index(string(body), `"digest":"`) + len(`"digest":"`)
	var bodies [][]byte
	for i := range n {
		one := slices.Clone(body)
		copy(one[at:], fmt.Sprintf("%08d", i))
		bodies = append(bodies, one)
	}
	l.enter(bodies...)
	l.settle()
	return l
}

// TestManyEntries: of very many entries, the newest are read, and it is said how many there are.
func TestManyEntries(t *testing.T) {
	s := newScene(t)
	l := manyEntries(t, s, 5*MaxEntries)
	in := &Inquiry{Subject: Subject{Kind: Identity, Name: prooftest.Builder}, At: s.platform.Now, Evidence: &Evidence{}, Askers: LogAskers(l, l, nil)}
	c := s.run(in)
	f := c.Answer(AskSameIdentity).Facts.Found
	if f == nil || f.Total != 5*MaxEntries || len(f.Entries) < MaxEntries/2 || len(f.Entries) > 3*MaxEntries || f.Until != nil || f.From == 0 || f.Entries[len(f.Entries)-1].Index != l.log.Size()-1 {
		t.Errorf("got %+v", f)
	}
	if n := l.asked.Load(); n > 3+MaxEntries*2/search.MaxPage {
		t.Errorf("the log was asked %d times", n)
	}
	all, err := Recheck(t.Context(), c, in.Evidence, nil, l.logs)
	if err != nil || all[0].Result != Recomputed && all[1].Result != Recomputed {
		t.Errorf("got %+v, %v", all, err)
	}
}

// TestManyReleases: a platform and a registry are asked for a bounded number.
func TestManyReleases(t *testing.T) {
	in := &Inquiry{Subject: Subject{Kind: Commit, Name: strings.Repeat("a", 40)}}
	if _, err := ReleasesAsker(counted{t}, "the platform")(t.Context(), in); err != nil {
		t.Error(err)
	}
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			all := []string{}
			for i := range maxTags + 100 {
				all = append(all, fmt.Sprintf("t%d", i))
			}
			json.NewEncoder(w).Encode(map[string]any{"name": "a", "tags": all})
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			asked.Add(1)
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	reg, err := oci.OpenRegistry(strings.TrimPrefix(srv.URL, "http://")+"/a", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in = &Inquiry{Subject: Subject{Kind: Image, Digest: "sha256:" + strings.Repeat("0", 64)}}
	r, err := TagsAsker(reg)(t.Context(), in)
	if err != nil || asked.Load() > maxTags || asked.Load() == 0 || len(r.Facts.Tags) != 0 {
		t.Errorf("got %d requests, %v", asked.Load(), err)
	}
}

type counted struct{ t *testing.T }

func (c counted) Runs(_ context.Context, f api.RunFilter) ([]api.Run, error) {
	if f.Limit != maxReleases {
		c.t.Errorf("got the limit %d", f.Limit)
	}
	return nil, nil
}
func (counted) KeptWith(context.Context, string, int64) (*api.KeptList, error) { return nil, nil }
func (counted) Content(context.Context, api.Kept) ([]byte, error)              { return nil, nil }
