// Package report writes verdicts of package verify in the formats that CI systems
// show: SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0) and JUnit XML. Each
// link of a verdict becomes one result; a verdict that was not accepted has at
// least one result that CI shows as a failure.
package report

import "github.com/colophon-build/colophon/verify"

// finding is how CI shows one link.
type finding int

const (
	passed  finding = iota
	noted           // not asked, or not demanded
	failed          // wrong or missing
	unknown         // could not be read, in a verdict that was not accepted
)

// reported is one link, or the verdict, as CI shows it.
type reported struct {
	finding finding
	rule    string // name of the link, or ruleVerdict
	text    string // claim or reason
}

// ruleVerdict is the rule of a verdict that was not accepted without any link that
// CI shows as a failure.
const ruleVerdict = "verdict"

// findings returns one finding for each link of a verdict, and one more if a
// verdict that was not accepted would otherwise show none.
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
