package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/verify"
)

// reportFormats are the values of --report before the "=".
var reportFormats = map[string]func([]*verify.Verdict) ([]byte, error){
	"sarif": sarif,
	"junit": junit,
}

// checkReports fails for a --report that could not be written in the end. A
// device or a link in its place would be replaced, and is refused.
func checkReports(reports []string) error {
	for _, r := range reports {
		format, path, ok := strings.Cut(r, "=")
		if _, known := reportFormats[format]; !ok || !known || path == "" {
			return usageError("", "--report: got %q, want sarif=FILE or junit=FILE", r)
		}
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return usageError("", "--report: %s is not a regular file", path)
		}
	}
	return nil
}

// writeReports writes each report whole or not at all.
func writeReports(reports []string, verdicts []*verify.Verdict) error {
	for _, r := range reports {
		format, path, _ := strings.Cut(r, "=")
		data, err := reportFormats[format](verdicts)
		if err == nil {
			err = durable.WriteFile(path, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("report %s: %w", path, err)
		}
	}
	return nil
}

// finding is what CI is to make of one link.
type finding int

const (
	passed  finding = iota
	noted           // not asked, or not demanded
	failed          // wrong or missing
	unknown         // demanded, and could not be had
)

type reported struct {
	finding finding
	rule    string // the link's name
	text    string
}

// ruleVerdict is the rule of what no single link accounts for.
const ruleVerdict = "verdict"

// findings judges the links of one verdict. One that is not accepted has at
// least one finding that CI shows.
func findings(v *verify.Verdict) []reported {
	var out []reported
	shown := false
	for _, l := range v.Links {
		r := reported{noted, l.Name, l.Reason}
		switch l.Status {
		case verify.Holds:
			r = reported{passed, l.Name, l.Claim}
		case verify.Broken, verify.Absent:
			r.finding = failed
		case verify.NotAsked:
		default:
			if v.Outcome != verify.Accepted {
				r.finding = unknown
			}
		}
		shown = shown || r.finding >= failed
		out = append(out, r)
	}
	if v.Outcome != verify.Accepted && !shown {
		out = append(out, reported{unknown, ruleVerdict, v.Why()})
	}
	return out
}

// rules are all that a finding may name, and what they demand.
var rules = [][2]string{
	{verify.LinkImage, "every byte of the image is what its digest says"},
	{verify.LinkFile, "the file is the one that was signed"},
	{verify.LinkSignature, "a signer that the trust root covers signed it, at a time that a timestamp proves"},
	{verify.LinkLog, "the signature is in the transparency log"},
	{verify.LinkProvenance, "it was built by the builder and from the source that are demanded"},
	{verify.LinkSource, "the repository still has the commit"},
	{verify.LinkSBOM, "an SBOM about this image, by the same signer"},
	{verify.LinkSummary, "a verifier that the policy believes verified it"},
	{ruleVerdict, "the image is accepted"},
}

type object = map[string]any

// sarif is SARIF 2.1.0: one run, a result for each link. A result that is not a
// failure has the level "none" (section 3.27.10).
func sarif(verdicts []*verify.Verdict) ([]byte, error) {
	results := []object{}
	for _, v := range verdicts {
		// A relative reference, escaped, whatever the name holds (RFC 3986, section 4.2).
		place := object{
			"physicalLocation": object{"artifactLocation": object{"uri": (&url.URL{Path: v.Image}).String()}},
			"logicalLocations": []object{{"fullyQualifiedName": v.Image}},
		}
		for _, r := range findings(v) {
			kind, level := "pass", "none"
			switch r.finding {
			case noted:
				kind = "notApplicable"
			case failed:
				kind, level = "fail", "error"
			case unknown:
				kind, level = "fail", "warning" // "open" would have no level, and be shown nowhere
			}
			results = append(results, object{
				"ruleId": r.rule, "kind": kind, "level": level,
				"message":    object{"text": fmt.Sprintf("%s, %s: %s", v.Image, r.rule, r.text)},
				"locations":  []object{place},
				"properties": object{"digest": v.Digest, "outcome": v.Outcome},
			})
		}
	}
	var known []object
	for _, r := range rules {
		known = append(known, object{"id": r[0], "shortDescription": object{"text": r[1]}})
	}
	var out bytes.Buffer
	err := printJSON(&out, object{
		"$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		"version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": "colophon", "version": version, "rules": known}},
			"results": results,
		}},
	})
	return out.Bytes(), err
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Name    string       `xml:"name,attr"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Failure *junitText `xml:"failure"`
	Error   *junitText `xml:"error"`
	Skipped *junitText `xml:"skipped"`
	Out     string     `xml:"system-out,omitempty"`
}

type junitText struct {
	Message string `xml:"message,attr"`
}

// junit is JUnit XML as CI systems read it: a suite for each image, a case for
// each link. What could not be decided is an error.
func junit(verdicts []*verify.Verdict) ([]byte, error) {
	doc := junitSuites{Name: "colophon verify"}
	for _, v := range verdicts {
		s := junitSuite{Name: v.Image}
		for _, r := range findings(v) {
			c, text := junitCase{Class: v.Image, Name: r.rule}, &junitText{r.text}
			switch r.finding {
			case passed:
				c.Out = r.text
			case failed:
				c.Failure = text
				s.Failures++
			case noted:
				c.Skipped = text
				s.Skipped++
			default:
				c.Error = text
				s.Errors++
			}
			s.Tests++
			s.Cases = append(s.Cases, c)
		}
		doc.Suites = append(doc.Suites, s)
	}
	out, err := xml.MarshalIndent(doc, "", "  ")
	return slices.Concat([]byte(xml.Header), out, []byte("\n")), err
}
