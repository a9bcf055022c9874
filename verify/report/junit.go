package report

import (
	"encoding/xml"
	"slices"

	"github.com/colophon-build/colophon/verify"
)

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

// JUnit returns the verdicts as JUnit XML: a test suite for each image, a test case
// for each link. A broken or absent link is a failure, an unknown one an error, and
// one that was not asked is skipped.
func JUnit(verdicts []*verify.Verdict) ([]byte, error) {
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
