package investigate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// shelf is an archive that has the same two pieces of content for every value.
type shelf struct {
	t     *testing.T
	asked []string
	err   error

	filling bool
	content []byte // of the first piece; nil: any
}

func (s *shelf) Filling(context.Context) (bool, error) { return s.filling, nil }

func (s *shelf) Name() string { return "the archive" }

func (s *shelf) Find(_ context.Context, kind search.Kind, value string, limit int) ([]Archived, int64, error) {
	if s.asked = append(s.asked, string(kind)+" "+value); limit != maxArchived {
		s.t.Errorf("got the limit %d", limit)
	}
	content := s.content
	if content == nil {
		content = []byte("a")
	}
	return []Archived{{Number: 1, Content: content, About: []string{"sha256:" + strings.Repeat("1", 64)}}, {Number: 2, Content: make([]byte, MaxContent+1), About: []string{"sha256:" + strings.Repeat("2", 64)}}}, 7, s.err
}

// TestHost asks an archive which builds a host ran: of an image, the host that its provenance names. Proofs of
// another time are left out, and those that were not read are an open question.
func TestHost(t *testing.T) {
	p := prooftest.New(t)
	built := p.Sign(prooftest.Identity{SAN: prooftest.Builder, Issuer: prooftest.URL}, []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"`+strings.Repeat("1", 64)+`"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`))
	s := &shelf{t: t, content: built}
	at := p.Now
	ask := func(since, until time.Time) *Case {
		t.Helper()
		in := &Inquiry{Subject: Subject{Kind: Host, Name: "build1.example.com", Since: &since, Until: &until}, At: at, Evidence: &Evidence{}, Askers: ArchiveAskers(s)}
		c, err := Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := ask(at.Add(-24*time.Hour), at.Add(24*time.Hour))
	if len(s.asked) != 1 || s.asked[0] != "tool dns:build1.example.com" || !strings.Contains(c.Conclusion.Line, "host build1.example.com: at least 2 log entries, 2 images known") {
		t.Errorf("asked %q, got %q", s.asked, c.Conclusion.Line)
	}
	if open := strings.Join(c.Conclusion.Open, "\n"); !strings.Contains(open, "the archive has 7 statements, and those from record 3 on were not read") {
		t.Errorf("got %q", open)
	}
	if n := len(ask(at.Add(-48*time.Hour), at.Add(-24*time.Hour)).Answers[0].Facts.Found.Entries); n != 1 {
		t.Errorf("of another time, %d statements are left, want the one whose time is not known", n)
	}
	in := &Inquiry{Subject: Subject{Kind: Image}}
	for host, want := range map[string][]string{"": nil, "build2": {"dns:build2"}} {
		in.holding.Facts.Holding = &verify.Facts{Build: &provenance.Facts{Host: host}}
		if got := in.hosts(); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

// TestArchive asks an archive which images have a package, a base image or a download.
func TestArchive(t *testing.T) {
	base := "sha256:" + strings.Repeat("b", 64)
	for _, subject := range []Subject{{Kind: Package, Name: "log4j@2.14"}, {Kind: Base, Name: base}, {Kind: Fetched, Name: "https://example.com/a"}} {
		s := &shelf{t: t}
		in := &Inquiry{Subject: subject, At: testTime, Evidence: &Evidence{}, Askers: ArchiveAskers(s)}
		c, err := Run(t.Context(), in)
		if err != nil || len(s.asked) != 1 || s.asked[0] != string(subject.Kind)+" "+subject.Name || !strings.Contains(c.Conclusion.Line, "7 log entries, 2 images known") || len(in.Digests()) != 2 {
			t.Errorf("%s: asked %q, got %q, %v", subject.Kind, s.asked, c.Conclusion.Line, err)
		}
		if n := len(c.Answers[0].Evidence); n != 1 {
			t.Errorf("%d pieces of evidence, want 1: the other is too large", n)
		}
		all, err := Recheck(t.Context(), c, in.Evidence, nil, noLogs)
		if err != nil || all[0].Result != OnlySaid {
			t.Errorf("got %+v, %v", all, err)
		}
		s.filling = true
		if c, err = Run(t.Context(), in); err != nil || !slices.ContainsFunc(c.Conclusion.Open, func(l string) bool { return strings.Contains(l, "not searched whole") }) {
			t.Errorf("%s: the archive is filling, got %q, %v", subject.Kind, c.Conclusion.Open, err)
		}
		s.err = errors.New("no disk")
		if c, err = Run(t.Context(), in); err != nil || c.Answers[0].Outcome != Failed {
			t.Errorf("got %+v, %v", c.Answers, err)
		}
	}
	// Of an image, its base images are looked for, each once and not too many.
	in, _ := fetchScene(t, func(string) (out []attest.ResourceDescriptor) {
		for i := range 2 * maxBases {
			out = append(out, dependency(fmt.Sprintf("pkg:docker/b%d@1", i), fmt.Sprint(i/2+i%2)))
		}
		return out
	})
	s := &shelf{t: t}
	if _, err := ArchiveAskers(s)[AskSameBase](t.Context(), in); err != nil || len(s.asked) != maxBases {
		t.Errorf("asked %d times, %v", len(s.asked), err)
	}
	in.holding = Answer{}
	_, err := ArchiveAskers(s)[AskSameBase](t.Context(), in)
	if _, ok := errors.AsType[notAsked](err); !ok {
		t.Errorf("got %v", err)
	}
}
