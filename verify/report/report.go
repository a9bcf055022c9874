// Package report writes verdicts in the formats that CI systems show: SARIF
// 2.1.0 and JUnit XML.
package report

import "github.com/colophon-build/colophon/verify"

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
