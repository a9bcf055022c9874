package report

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

const evil = "\x1b[2J<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) ![x](https://evil.example.com/x.png) `|` </svg>]]>\"'--><b>\u202e"

// hostile is a case whose every text is a stranger's.
func hostile() *investigate.Case {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := &investigate.Case{Version: 1, At: at, By: evil, Subject: investigate.Subject{Kind: investigate.Image, Name: evil, Digest: "sha256:" + evil}}
	entry := int64(1)
	for _, q := range investigate.QuestionsAbout(investigate.Image) {
		a := investigate.Answer{ID: q.ID, Question: q.Text, Asked: evil, Query: evil, Outcome: investigate.Answered, Evidence: []string{evil}}
		switch q.ID {
		case investigate.AskChain:
			build := &provenance.Facts{Source: evil, Ref: "refs/heads/" + evil, Commit: evil}
			a.Facts.Verdict = &verify.Verdict{Links: []verify.Link{{Name: verify.LinkSignature, Status: verify.Holds, Claim: evil}, {Name: verify.LinkProvenance, Status: verify.Broken, Reason: evil}}}
			a.Facts.Holding = &verify.Facts{Build: build, Signed: []verify.Signed{{Signer: evil, Times: []time.Time{at}}}}
		case investigate.AskCommit:
			a.Facts.Commit = &source.CommitObject{ID: evil, Author: evil, Committer: evil + "2", Title: evil, Authored: at}
		case investigate.AskHistory:
			a.Facts.History = []investigate.RefMove{{Time: at, Ref: evil, Commit: evil, Entry: &entry}, {Time: at, Ref: evil, Commit: evil}}
		case investigate.AskSameIdentity:
			a.Facts.Found = &investigate.Found{Log: evil, Kind: "identity", Value: evil, Total: 2, Entries: []investigate.Entry{{Identity: evil, Commit: evil, Issued: &at, About: []string{evil}}}}
		case investigate.AskReleases:
			a.Facts.Releases = []investigate.Release{{ID: evil, State: evil, Image: evil, Digest: evil, Tags: []string{evil}, Actor: evil, Asked: at, Ended: at}}
		case investigate.AskTags:
			a.Facts.Tags = []investigate.Tag{{Name: evil}}
		case investigate.AskRunning:
			a.Facts.Running = []investigate.Running{{Where: evil, Image: evil, Digest: evil, Since: at}}
		case investigate.AskRebuilder:
			a.Outcome, a.Why = investigate.Failed, evil
		}
		c.Answers = append(c.Answers, a)
	}
	c.Conclusion = investigate.Conclude(c)
	return c
}

// TestHTMLIsSafe reads the page as a browser does: no element, attribute or address is a stranger's.
func TestHTMLIsSafe(t *testing.T) {
	page, err := HTML(hostile())
	if err != nil {
		t.Fatal(err)
	}
	elements := strings.Fields("html head meta title style body h1 h2 p table tbody tr th td img ul li")
	attributes := map[string]*regexp.Regexp{
		"lang": regexp.MustCompile(`^en$`), "charset": regexp.MustCompile(`^utf-8$`), "name": regexp.MustCompile(`^referrer$`), "http-equiv": regexp.MustCompile(`^Content-Security-Policy$`),
		"content": regexp.MustCompile(`^no-referrer$|^default-src 'none'; img-src data:; style-src 'sha256-[A-Za-z0-9+/=]+'; base-uri 'none'; form-action 'none'$`),
		"class":   regexp.MustCompile(`^(broken|whole|undecided|listed|holds|absent|unknown|not asked)$`), "alt": regexp.MustCompile(`^[A-Za-z:; -]+$`), "src": regexp.MustCompile(`^data:image/svg\+xml;base64,[A-Za-z0-9+/=]+$`),
	}
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	pictures := 0
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(elements, n.Data) {
			t.Errorf("the page has an element %s", n.Data)
		}
		for _, a := range n.Attr {
			if allowed := attributes[a.Key]; allowed == nil || !allowed.MatchString(a.Val) {
				t.Errorf("%s has %s=%q", n.Data, a.Key, a.Val)
			}
			if a.Key == "src" {
				pictures++
				svg, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(a.Val, "data:image/svg+xml;base64,"))
				if err != nil {
					t.Error(err)
				}
				checkPicture(t, svg)
			}
		}
	}
	if pictures != 2 || strings.ContainsAny(string(page), "\x1b\u202e") || bytes.Contains(page, []byte("ZgotmplZ")) {
		t.Errorf("%d pictures; or the page controls a terminal", pictures)
	}
}

// checkPicture fails the test unless SVG is well formed and has shapes and texts alone.
func checkPicture(t *testing.T, svg []byte) {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			if !slices.Contains(strings.Fields("svg rect line circle text"), e.Name.Local) {
				t.Errorf("the picture has an element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if !regexp.MustCompile(`^[A-Za-z0-9#. :/-]*$`).MatchString(a.Value) || strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// TestMarkdownIsSafe: no line of the report, or of a draft, has markup of strangers.
func TestMarkdownIsSafe(t *testing.T) {
	c := hostile()
	pages := map[string][]byte{"report": Markdown(c)}
	for _, kind := range []Kind{Early, After, Final} {
		d, err := CRA(c, kind, "sha256:00")
		if err != nil {
			t.Fatal(err)
		}
		pages[string(kind)] = d.Markdown()
		if raw, err := json.Marshal(d); err != nil || !json.Valid(raw) {
			t.Error(err)
		}
	}
	// What is not escaped and could be markup.
	markup := regexp.MustCompile("[^\\\\][`\\[\\]]|<|://|[^\\\\]!\\[|\x1b|\u202e")
	for name, page := range pages {
		for line := range strings.Lines(string(page)) {
			if found := markup.FindString(line); found != "" {
				t.Errorf("%s: %q in %q", name, found, line)
			}
			if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 4 {
				t.Errorf("%s: a row has another number of cells: %q", name, line)
			}
		}
	}
	if !strings.HasPrefix(string(pages["report"]), "# broken link: provenance: ") {
		t.Errorf("got %q", pages["report"][:60])
	}
}

// TestDrafts: each report has the parts that its article asks for, and says what a person must add.
func TestDrafts(t *testing.T) {
	for kind, want := range map[Kind][]string{
		Early: {"product", "aware since", "unlawful or malicious", "Member States"},
		After: {"product", "aware since", "nature of the incident", "initial assessment", "measures taken", "measures that users can take", "sensitivity"},
		Final: {"product", "aware since", "description", "time line", "root cause", "measures taken"},
	} {
		d, err := CRA(hostile(), kind, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range d.Fields {
			got = append(got, f.Name)
		}
		if !slices.Equal(got, want) || !strings.Contains(string(d.Markdown()), "TO FILL IN") {
			t.Errorf("%s: got %q", kind, got)
		}
	}
	if _, err := CRA(hostile(), "later", ""); err == nil {
		t.Error("a report of an unknown kind was made")
	}
}

// TestLargePictures: a picture shows a bounded number of events and boxes, and says what is left out.
func TestLargePictures(t *testing.T) {
	c := hostile()
	for i := range 3 * maxPictured {
		c.Conclusion.Timeline = append(c.Conclusion.Timeline, investigate.Event{What: fmt.Sprint("event ", i, strings.Repeat("x", 1000))})
	}
	svg := string(Timeline(c))
	if n := strings.Count(svg, "<circle"); n != maxPictured || !strings.Contains(svg, "left out") {
		t.Errorf("got %d events", n)
	}
	if len(svg) > maxPictured*(maxLabel+300) {
		t.Errorf("got %d bytes", len(svg))
	}
	for i := range 50 {
		for j, a := range c.Answers {
			if a.ID == investigate.AskTags {
				c.Answers[j].Facts.Tags = append(c.Answers[j].Facts.Tags, investigate.Tag{Name: fmt.Sprint("t", i)})
			}
		}
	}
	if n := strings.Count(string(Graph(c)), "<rect"); n > 2+4*maxNodes {
		t.Errorf("got %d boxes", n)
	}
}
