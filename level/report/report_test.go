package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

const evil = "\x1b[2J<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) ![x](https://evil.example.com/x.png) `|` @team </svg>]]>\"'--><b>\n- [x] SLSA Build L3 \u202e"

// hostile is a document whose every text is a stranger's.
func hostile() *report.Document {
	v := &verify.Verdict{Image: evil, Digest: evil, Outcome: verify.Rejected, Links: []verify.Link{{Name: verify.LinkSBOM, Status: verify.Broken, Reason: evil}}}
	for _, q := range provenance.WithoutProvenance(provenance.NotMet, evil) {
		q.Evidence = evil
		v.Requirements = append(v.Requirements, q)
	}
	tr := track.Evaluate(track.Facts{URI: evil, Commit: evil, Ref: evil, ChangesErr: errors.New(evil), RulesErr: errors.New(evil)})
	l := &lint.Report{Findings: []finding.Finding{{Rule: "workflow/action-unpinned", Message: evil, Position: finding.Position{File: evil}}}}
	d := &report.Document{Image: evil, Digest: evil, Directory: evil, Repository: evil, Ref: evil, Commit: evil, Branch: evil, Why: evil, Outcome: verify.Rejected}
	d.Report = level.Of(level.Evidence{Verdict: v, Track: &tr, Lint: l, Files: []string{".github/workflows/" + evil + ".yml"}})
	return d
}

// TestHTMLIsSafe reads the page as a browser does: no element, attribute or address is a stranger's.
func TestHTMLIsSafe(t *testing.T) {
	page, err := report.HTML(hostile())
	if err != nil {
		t.Fatal(err)
	}
	elements := strings.Fields("html head meta title style body h1 h2 h3 p a table tbody tr th td img ul ol li input span strong small br")
	attributes := map[string]*regexp.Regexp{
		"lang": regexp.MustCompile(`^en$`), "charset": regexp.MustCompile(`^utf-8$`), "name": regexp.MustCompile(`^referrer$`), "http-equiv": regexp.MustCompile(`^Content-Security-Policy$`),
		"content": regexp.MustCompile(`^no-referrer$|^default-src 'none'; img-src data:; style-src 'sha256-[A-Za-z0-9+/=]+'; base-uri 'none'; form-action 'none'$`),
		"class":   regexp.MustCompile(`^(met|not-met|not-known)$`), "alt": regexp.MustCompile(`^SLSA levels$`), "src": regexp.MustCompile(`^data:image/svg\+xml;base64,[A-Za-z0-9+/=]+$`),
		"href": regexp.MustCompile(`^https://slsa\.dev/spec/v1\.2/(build|source)-requirements#[a-z-]+$`), "type": regexp.MustCompile(`^checkbox$`),
		"disabled": regexp.MustCompile(`^$`), "checked": regexp.MustCompile(`^$`),
	}
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
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
		}
	}
	if strings.ContainsAny(string(page), "\x1b\u202e") || bytes.Contains(page, []byte("ZgotmplZ")) || !bytes.Contains(page, []byte("&lt;script&gt;")) {
		t.Error("the page controls a terminal, or lacks the texts")
	}
}

// TestMarkdownIsSafe: no line has markup of strangers, and no box is ticked by one.
func TestMarkdownIsSafe(t *testing.T) {
	page := string(report.Markdown(hostile()))
	spec := regexp.MustCompile(`\[[A-Za-z -]+\]\(https://slsa\.dev/spec/v1\.2/(build|source)-requirements#[a-z-]+\)`)
	markup := regexp.MustCompile("[^\\\\][`\\[\\]]|<|://|[^\\\\]!\\[|@|\x1b|\u202e")
	for line := range strings.Lines(page) {
		rest := strings.TrimPrefix(strings.TrimPrefix(spec.ReplaceAllString(line, "spec"), "- [ ]"), "- [x]")
		if found := markup.FindString(rest); found != "" {
			t.Errorf("%q in %q", found, line)
		}
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 5 {
			t.Errorf("a row has another number of cells: %q", line)
		}
	}
	ticked := 0
	for _, p := range hostile().Roadmap {
		for _, s := range p.Steps {
			if s.Status == level.Met {
				ticked++
			}
		}
	}
	if got := strings.Count(page, "\n- [x]"); got != ticked {
		t.Errorf("got %d ticked boxes, want %d", got, ticked)
	}
}

// TestBadge: it has numbers and words of ours alone, and a rejected image gets no level.
func TestBadge(t *testing.T) {
	built := func(n int, o verify.Outcome) *report.Document {
		return &report.Document{Image: evil, Outcome: o, Report: &level.Report{Build: &level.Reached{Level: n}, Source: &level.Reached{}}}
	}
	repository := &report.Document{Repository: evil, Outcome: verify.Accepted, Report: &level.Report{Build: &level.Reached{Level: 3}, Source: &level.Reached{Level: 4}}}
	for want, d := range map[string]*report.Document{
		"SLSA: Build L3": built(3, verify.Accepted), "SLSA: Build L0": built(0, verify.Accepted), "SLSA: rejected": built(3, verify.Rejected), "SLSA: not known": built(3, verify.Undecided),
		"SLSA: Source L4": repository,
	} {
		svg := report.Badge(d)
		if !bytes.Contains(svg, []byte("<title>"+want+"</title>")) || bytes.Contains(svg, []byte("script")) {
			t.Errorf("want %q in %s", want, svg)
		}
		if green := bytes.Contains(svg, []byte("#0a6b2e")); green != (strings.HasSuffix(want, "L3") || strings.HasSuffix(want, "L4")) {
			t.Errorf("%s: green: %v", want, green)
		}
		dec := xml.NewDecoder(bytes.NewReader(svg))
		for {
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
			if e, ok := token.(xml.StartElement); ok && !slices.Contains(strings.Fields("svg title rect text"), e.Name.Local) {
				t.Errorf("the badge has an element %s", e.Name.Local)
			}
		}
	}
	if bytes.Contains(report.Badge(hostile()), []byte("alert")) {
		t.Error("the badge has text of strangers")
	}
}
