package provenance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
)

// Requirement is one requirement of SLSA's Build track
// (slsa.dev/spec/v1.2/build-requirements, "Overview"), and whether a build met it.
type Requirement struct {
	Name     string `json:"name"`
	Level    int    `json:"level"` // the lowest Build level that demands it
	Status   Met    `json:"status"`
	Evidence string `json:"evidence"` // for people: what says so, or what is missing
}

// Met says whether a requirement is met.
type Met string

const (
	IsMet    Met = "met"
	NotMet   Met = "not met"
	NotKnown Met = "not known" // never counts as met
)

const (
	reqPlatform    = "appropriate build platform"
	reqConsistent  = "consistent build process"
	reqDistributed = "provenance distributed"
	reqExists      = "provenance exists"
	reqAuthentic   = "provenance authentic"
	reqUnforgeable = "provenance unforgeable"
	reqHosted      = "build hosted"
	reqIsolated    = "build isolated"
)

// requirementLevels are all requirements, in the order that they are shown,
// each with the lowest level that demands it.
var requirementLevels = []struct {
	name  string
	level int
}{
	{reqPlatform, 1},
	{reqConsistent, 1},
	{reqDistributed, 1},
	{reqExists, 1},
	{reqAuthentic, 2},
	{reqUnforgeable, 3},
	{reqHosted, 2},
	{reqIsolated, 3},
}

// BuildLevel is the SLSA Build level that follows from requirements: the highest
// of which every one is met, or 0.
func BuildLevel(rs []Requirement) int {
	if len(rs) == 0 {
		return 0
	}
	level := 3
	for _, r := range rs {
		if r.Status != IsMet {
			level = min(level, r.Level-1)
		}
	}
	return level
}

// Evidence is what the requirements rest on besides the facts: what the
// verifier knows. Its texts are for people.
type Evidence struct {
	Level      int    // SLSA Build level that Facts.Builder is trusted for; 0 is none
	By         string // who trusts it for that level: "the policy"; empty where nobody does
	Provenance string // which provenance it is, and what it is about
	Signed     string // who signed it and when, and where it is logged
	Unlogged   bool   // neither a log nor a timestamp authority stands behind the signature
	Lock       string // whether Facts.Lock is attached, as in "which is attached"
}

// Requirements judges a build. Somebody must trust the builder for a level,
// because no build can show from the inside what it runs in. What the provenance
// says about its isolation can only take away from that.
func (f *Facts) Requirements(e Evidence) []Requirement {
	unforgeable, isolated := f.trusted(e, 3), f.trusted(e, 3)
	if f.Isolation != nil {
		unforgeable = unforgeable.and(zones(*f.Isolation))
		isolated = isolated.and(namespaces(*f.Isolation))
	}
	authentic := judged{IsMet, e.Signed}
	if e.Unlogged {
		authentic.status = NotMet
	}
	consistent := judged{IsMet, "build type " + f.BuildType + ", whose parameters agree with its certificate"}
	if p := f.pinned(e.Lock); p != "" {
		consistent.evidence += "; " + p
	}
	hosted := f.trusted(e, 2)
	switch {
	case f.Runner == "":
	case slices.Contains(runnersHosted, f.Runner):
		hosted = hosted.and(judged{IsMet, "its certificate says that the runner was " + f.Runner})
	default:
		// Whoever runs the machine can run anything on it.
		own := judged{NotMet, fmt.Sprintf("its certificate says that the runner was %q", f.Runner)}
		hosted, unforgeable, isolated = hosted.and(own), unforgeable.and(own), isolated.and(own)
	}
	return list(map[string]judged{
		reqPlatform:    f.trusted(e, 1),
		reqConsistent:  consistent,
		reqDistributed: {IsMet, "it was found with what it is about"},
		reqExists:      {IsMet, e.Provenance},
		reqAuthentic:   authentic,
		reqUnforgeable: unforgeable,
		reqHosted:      hosted,
		reqIsolated:    isolated,
	})
}

// WithoutProvenance returns the requirements where no provenance holds: NotMet
// where there is none, NotKnown where it could not be had. The reason is for people.
func WithoutProvenance(exists Met, reason string) []Requirement {
	all := map[string]judged{reqExists: {exists, reason}}
	for _, r := range requirementLevels {
		if r.name != reqExists {
			all[r.name] = judged{NotKnown, "there is no provenance that holds"}
		}
	}
	return list(all)
}

func list(all map[string]judged) []Requirement {
	var out []Requirement
	for _, r := range requirementLevels {
		j := all[r.name]
		if j.status == "" {
			j.status = NotKnown
		}
		out = append(out, Requirement{r.name, r.level, j.status, j.evidence})
	}
	return out
}

type judged struct {
	status   Met
	evidence string
}

// and is met where both are; the evidence is that of both, or of what is not met.
func (j judged) and(other judged) judged {
	switch {
	case j.status == IsMet && other.status == IsMet:
		return judged{IsMet, j.evidence + "; " + other.evidence}
	case j.status == IsMet, j.status == NotKnown && other.status == NotMet:
		return other
	}
	return j
}

// trusted says whether the builder is trusted for a level.
func (f *Facts) trusted(e Evidence, level int) judged {
	switch {
	case e.By == "" || e.Level == 0:
		return judged{NotKnown, fmt.Sprintf("nobody that is believed says which level %s reaches", f.Builder)}
	case e.Level < level:
		return judged{NotMet, fmt.Sprintf("%s is believed for Build L%d, by %s", f.Builder, e.Level, e.By)}
	}
	return judged{IsMet, fmt.Sprintf("%s is believed for Build L%d, by %s", f.Builder, e.Level, e.By)}
}

// pinned says for people what the downloads were held to; empty where nothing
// was pinned.
func (f *Facts) pinned(attached string) string {
	switch {
	case f.Lock == "" && f.Hermetic:
		return "hermetic: built twice with the same result, compiled without a network"
	case f.Lock == "":
		return ""
	case f.Hermetic:
		return "hermetic: built again from the lock " + f.Lock + " with the same result; " + attached
	}
	return "nothing was fetched but what is in the lock " + f.Lock + "; " + attached
}

// runnersHosted are the machines that GitHub and GitLab run, as certificates
// name them.
var runnersHosted = []string{"github-hosted", "gitlab-hosted"}

func zones(i attest.Isolation) judged {
	switch i.Zones {
	case attest.SeparateUsers:
		return judged{IsMet, "its provenance says that the platform's zones were " + i.Zones}
	case "":
		return judged{NotKnown, "its provenance does not say whether the platform's zones were separate users"}
	}
	return judged{NotMet, fmt.Sprintf("its provenance says that the platform's zones were %q, want %q", i.Zones, attest.SeparateUsers)}
}

// namespaces looks for those without which a build sees the host or other builds.
func namespaces(i attest.Isolation) judged {
	missing := i.Missing("user", "mount", "pid", "ipc")
	switch {
	case strings.TrimSpace(i.Namespaces) == "":
		return judged{NotKnown, "its provenance does not say what kept the room apart"}
	case missing != "":
		return judged{NotMet, fmt.Sprintf("its provenance says that the room had the namespaces %q, want %q among them", i.Namespaces, missing)}
	}
	return judged{IsMet, "its provenance says that the room had namespaces of its own: " + i.Namespaces}
}
