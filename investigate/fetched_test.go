package investigate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// webScene is a server, of which builds fetched files.
func webScene(t *testing.T) (asked *atomic.Int64, url string) {
	asked = new(atomic.Int64)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/same", "/other":
			fmt.Fprint(w, "bytes")
		case "/large":
			w.Write(bytes.Repeat([]byte("a"), 1<<20))
		case "/away":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/broken":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
		case "/denied":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(web.Close)
	return asked, web.URL
}

// fetchScene is an inquiry about what was fetched from a server.
func fetchScene(t *testing.T, deps func(url string) []attest.ResourceDescriptor) (*Inquiry, *atomic.Int64) {
	asked, url := webScene(t)
	in := &Inquiry{Subject: Subject{Kind: Image, Name: "x"}, Evidence: &Evidence{}}
	in.holding.Facts.Holding = &verify.Facts{Build: &provenance.Facts{Dependencies: deps(url)}}
	return in, asked
}

func dependency(uri, content string) attest.ResourceDescriptor {
	sum := sha256.Sum256([]byte(content))
	return attest.ResourceDescriptor{URI: uri, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}}
}

func TestFetchedAgain(t *testing.T) {
	in, _ := fetchScene(t, func(url string) []attest.ResourceDescriptor {
		ranged := dependency(url+"/same", "bytes")
		ranged.Annotations = map[string]any{"range": "bytes=0-1"}
		failed := dependency(url+"/gone", "not found")
		failed.Annotations = map[string]any{"status": "404"}
		return []attest.ResourceDescriptor{
			dependency(url+"/same", "bytes"), dependency(url+"/other", "older bytes"), dependency(url+"/gone", "bytes"), dependency(url+"/denied", ""),
			dependency(url+"/broken", ""), dependency(url+"/round", ""), ranged, failed, dependency("pkg:docker/golang@1.26", ""), dependency("git+https://git.example.com/a", ""), dependency("ftp://a.example.com/", ""),
		}
	})
	r, err := FetchedAsker(Refetch{Private: true})(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := []FetchStatus{FetchSame, FetchOther, FetchGone, FetchUnknown, FetchUnknown, FetchUnknown, FetchUnknown, FetchUnknown}
	if len(r.Facts.Fetches) != len(want) {
		t.Fatalf("got %+v", r.Facts.Fetches)
	}
	for i, f := range r.Facts.Fetches {
		if f.Status != want[i] || f.Status == FetchUnknown && f.Why == "" {
			t.Errorf("got %+v, want %s", f, want[i])
		}
	}
	c := &Case{Subject: in.Subject, Answers: []Answer{{ID: AskFetched, Outcome: Answered, Facts: r.Facts}}}
	if out := Conclude(c); out.State != Broken || !strings.Contains(out.Line, "has other bytes now") {
		t.Errorf("got %+v", out)
	}
}

// TestPrivateAddresses: provenance may name a server of this machine or of its networks, and an
// investigation does not ask it, also not through a redirect.
func TestPrivateAddresses(t *testing.T) {
	in, asked := fetchScene(t, func(url string) []attest.ResourceDescriptor {
		return []attest.ResourceDescriptor{dependency(url+"/same", "bytes"), dependency(strings.Replace(url, "127.0.0.1", "localhost", 1)+"/same", "bytes"), dependency("http://[::1]:1/", ""), dependency("http://10.0.0.1/", "")}
	})
	r, err := FetchedAsker(Refetch{})(t.Context(), in)
	if err != nil || asked.Load() != 0 {
		t.Errorf("got %d requests, %v", asked.Load(), err)
	}
	for _, f := range r.Facts.Fetches {
		if f.Status != FetchUnknown || !strings.Contains(f.Why, "is not a public address") {
			t.Errorf("got %+v", f)
		}
	}
	for address, want := range map[string]bool{"127.0.0.1:80": true, "[::ffff:10.0.0.1]:80": true, "169.254.169.254:80": true, "[fe80::1%eth0]:80": true, "[64:ff9b::7f00:1]:80": true, "9.9.9.9:80": false, "[2606:4700::1]:443": false} {
		if err := reach.Public("tcp", address, nil); (err != nil) != want {
			t.Errorf("%s: got %v", address, err)
		}
	}
	if err := reach.Public("tcp", netip.MustParseAddrPort("10.0.0.1:1").String(), nil); err == nil {
		t.Error("a private address is asked")
	}
}

// TestRefetchBounds: a provenance with many or endless downloads costs a bounded amount.
func TestRefetchBounds(t *testing.T) {
	in, asked := fetchScene(t, func(url string) (out []attest.ResourceDescriptor) {
		for i := range maxFetches + 10 {
			out = append(out, dependency(fmt.Sprintf("%s/same?%d", url, i), "bytes"))
		}
		return out
	})
	r, err := FetchedAsker(Refetch{Private: true})(t.Context(), in)
	if err != nil || asked.Load() != maxFetches || r.Facts.Fetches[maxFetches].Status != FetchUnknown || len(r.Facts.Fetches) != maxFetches+10 {
		t.Errorf("got %d requests, %v", asked.Load(), err)
	}
	in, _ = fetchScene(t, func(url string) []attest.ResourceDescriptor {
		return []attest.ResourceDescriptor{dependency(url+"/large", "")}
	})
	f := Fetch{URI: in.Holding().Build.Dependencies[0].URI}
	transport := (Refetch{Private: true}).Transport()
	defer transport.CloseIdleConnections()
	if n := fetchOne(t.Context(), &http.Client{Transport: transport}, &f, "", 1000); n != 1001 || f.Status == FetchSame || f.Got != "" || f.Why == "" {
		t.Errorf("got %d, %+v", n, f)
	}
	var bases []attest.ResourceDescriptor
	for i := range maxBases + 2 {
		bases = append(bases, dependency(fmt.Sprintf("pkg:docker/r.example.com/b%d@1?platform=linux%%2Famd64", i), "b"))
	}
	in.holding.Facts.Holding.Build.Dependencies = bases
	opened := 0
	r, err = BasesAsker(func(name string) (oci.Source, error) {
		if opened++; !strings.HasPrefix(name, "r.example.com/b") {
			t.Errorf("%s was opened", name)
		}
		return nil, oci.ErrNotFound
	})(t.Context(), in)
	if err != nil || opened != maxBases || len(r.Facts.Bases) != maxBases+2 {
		t.Errorf("got %d registries, %v", opened, err)
	}
}

// TestEvidenceBound: a case has a limit, past which a question fails and the case says so.
func TestEvidenceBound(t *testing.T) {
	e := &Evidence{size: maxEvidence - 3}
	if _, err := e.Add([]byte("abc")); err != nil {
		t.Error(err)
	}
	if _, err := e.Add([]byte("d")); err == nil {
		t.Error("more than a case may have was kept")
	}
	if _, err := e.Add([]byte("abc")); err != nil {
		t.Error("what is kept already was refused")
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), MaxCase+1)); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("got %v", err)
	}
	c := &Case{Version: Version, Subject: Subject{Kind: Image, Name: "x"}}
	var a Answer
	a.ID, a.Outcome = AskRunning, Answered
	for i := range maxEvents + 50 {
		a.Facts.Running = append(a.Facts.Running, Running{Where: fmt.Sprint(i), Since: c.At.AddDate(1, 0, i)})
	}
	c.Answers = []Answer{a}
	if got := timeline(c); len(got) != maxEvents || !strings.Contains(got[maxEvents/2].What, "left out") {
		t.Errorf("got %d events, %q", len(got), got[len(got)/2].What)
	}
	if got := line(strings.Repeat("a", 1000)); len(got) > maxLine+10 {
		t.Errorf("got a line of %d bytes", len(got))
	}
	if got := names(strings.Fields(strings.Repeat("a ", maxNamed+5))); !strings.Contains(got, "and 5 more") {
		t.Errorf("got %q", got)
	}
}

// TestWhatTheBuildUsed: the questions about base images, downloads and lists get what the provenance of a
// real verification names, and the case does not repeat it.
func TestWhatTheBuildUsed(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.git("tag", "v1.2.0")
	r := s.release("refs/tags/v1.2.0", commit)
	_, url := webScene(t)
	base := dependency("pkg:docker/r.example.com/base@1?platform=linux%2Famd64", "base")
	r.Provenance.BuildDefinition.ResolvedDependencies = append(r.Provenance.BuildDefinition.ResolvedDependencies, dependency(url+"/same", "bytes"), base)
	r.Attach(prooftest.Kinds...)
	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Fetched: url + "/same"})
	in := s.inquiry()
	in.Askers[AskFetched] = FetchedAsker(Refetch{Private: true})
	in.Askers[AskBases] = BasesAsker(func(string) (oci.Source, error) { return nil, oci.ErrNotFound })
	in.Askers[AskDistrust] = DistrustAsker(func(context.Context, time.Time) (distrust.Lists, error) {
		return distrust.Lists{issuer.Known("shop")}, nil
	})
	c := s.run(in)
	if f := c.Answer(AskFetched).Facts.Fetches; len(f) != 1 || f[0].Status != FetchSame {
		t.Errorf("downloads: got %+v", f)
	}
	if b := c.Answer(AskBases).Facts.Bases; len(b) != 1 || b[0].URI != base.URI {
		t.Errorf("base images: got %+v", b)
	}
	if d := c.Answer(AskDistrust).Facts.Distrust; d == nil || len(d.Entries) != 1 {
		t.Errorf("lists: got %+v", d)
	}
	if c.Answer(AskChain).Facts.Holding.Build.Dependencies != nil {
		t.Error("the case repeats the dependencies")
	}
	s.recheck(c, in.Evidence)
	var a Answer
	for _, fetches := range [][]Fetch{nil, {{Status: FetchGone}, {Status: FetchUnknown}}} {
		if a.Facts.Fetches = fetches; fetchFindings(a)[0].Status == verify.Holds {
			t.Errorf("%v: nothing was compared, and the link holds", fetches)
		}
	}
}
