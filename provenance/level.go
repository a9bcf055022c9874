package provenance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
)

// Requirement is one requirement of SLSA's Build track
// (slsa.dev/spec/v1.2/build-requirements, "Overview"), and whether a build meets it.
type Requirement struct {
	Name     string `json:"name"`
	Level    int    `json:"level"` // the lowest Build level that demands it, 1 to 3
	Status   Met    `json:"status"`
	Evidence string `json:"evidence"` // what shows it, or what is missing; for people
}

// Met is whether a requirement is met.
type Met string

const (
	IsMet    Met = "met"
	NotMet   Met = "not met"
	NotKnown Met = "not known" // counts as not met
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

// requirementLevels lists all requirements in the order of Requirements, each with
// the lowest level that demands it.
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

// BuildLevel returns the SLSA Build level that follows from requirements: the
// highest level, 1 to 3, whose requirements are all met, or 0.
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

// Evidence is what the verifier knows and the requirements rest on, besides the
// facts. Its texts are for people.
type Evidence struct {
	Level      int    // SLSA Build level, 1 to 3, that Facts.Builder is trusted for; 0: none
	By         string // what gives it that level, as in "the policy"; empty if nothing does
	Provenance string // which provenance it is, and what it is about
	Signed     string // who signed it and when, and its log entry
	Unlogged   bool   // neither a log nor a timestamp authority confirms the signature
	Lock       string // whether Facts.Lock is attached, as in "the lock is attached to the image"
}

// Requirements returns which of SLSA's requirements a build meets, all 8 of them. A
// build cannot prove from the inside where it runs, so a trust root or policy must
// trust the builder for a level. What the provenance says about isolation can only
// lower that level.
func (f *Facts) Requirements(e Evidence) []Requirement {
	unforgeable, isolated := f.trusted(e, 3), f.trusted(e, 3)
	if f.Isolation != nil {
		unforgeable = unforgeable.and(zones(*f.Isolation))
		isolated = isolated.and(namespaces(*f.Isolation)).and(reach(*f.Isolation)).and(cacheMounts(*f.Isolation))
	}
	authentic := judged{IsMet, e.Signed}
	if e.Unlogged {
		authentic.status = NotMet
	}
	consistent := judged{IsMet, "build type " + f.BuildType + ", and its parameters agree with the certificate"}
	if p := f.pinned(e.Lock); p != "" {
		consistent.evidence += "; " + p
	}
	hosted := f.trusted(e, 2)
	switch {
	case f.Runner == "":
	case slices.Contains(runnersHosted, f.Runner):
		hosted = hosted.and(judged{IsMet, "the certificate says that the runner is " + f.Runner})
	default:
		// The owner of a self-hosted runner can change what runs on it.
		own := judged{NotMet, fmt.Sprintf("the certificate says that the runner is %q", f.Runner)}
		hosted, unforgeable, isolated = hosted.and(own), unforgeable.and(own), isolated.and(own)
	}
	return list(map[string]judged{
		reqPlatform:    f.trusted(e, 1),
		reqConsistent:  consistent,
		reqDistributed: {IsMet, "found together with the image or file that it is about"},
		reqExists:      {IsMet, e.Provenance},
		reqAuthentic:   authentic,
		reqUnforgeable: unforgeable,
		reqHosted:      hosted,
		reqIsolated:    isolated,
	})
}

// WithoutProvenance returns the requirements if no provenance is valid. exists is
// the status of "provenance exists": NotMet if there is no provenance, NotKnown if
// it could not be read. reason is for people.
func WithoutProvenance(exists Met, reason string) []Requirement {
	all := map[string]judged{reqExists: {exists, reason}}
	for _, r := range requirementLevels {
		if r.name != reqExists {
			all[r.name] = judged{NotKnown, "no valid provenance"}
		}
	}
	return list(all)
}

// list returns the requirements in order. One that is not in all is not known.
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

// judged is the status of one requirement, and what it rests on.
type judged struct {
	status   Met
	evidence string
}

// and is met if both are. Its evidence is that of both, or of the one that is not met.
func (j judged) and(other judged) judged {
	switch {
	case j.status == IsMet && other.status == IsMet:
		return judged{IsMet, j.evidence + "; " + other.evidence}
	case j.status == IsMet, j.status == NotKnown && other.status == NotMet:
		return other
	}
	return j
}

// trusted returns whether the builder is trusted for a level.
func (f *Facts) trusted(e Evidence, level int) judged {
	switch {
	case e.By == "" || e.Level == 0:
		return judged{NotKnown, fmt.Sprintf("neither a trust root nor the policy gives %s a Build level", f.Builder)}
	case e.Level < level:
		return judged{NotMet, fmt.Sprintf("%s is trusted for Build L%d by %s", f.Builder, e.Level, e.By)}
	}
	return judged{IsMet, fmt.Sprintf("%s is trusted for Build L%d by %s", f.Builder, e.Level, e.By)}
}

// pinned describes for people how the build's downloads were constrained, or
// returns "" if they were not. lock is Evidence.Lock.
func (f *Facts) pinned(lock string) string {
	switch {
	case f.Lock == "" && f.Hermetic:
		return "hermetic: built twice with the same result, compiled without a network"
	case f.Lock == "":
		return ""
	case f.Hermetic:
		return "hermetic: built again from the lock " + f.Lock + " with the same result; " + lock
	}
	return "built only with the downloads listed in the lock " + f.Lock + "; " + lock
}

// runnersHosted are the runners that GitHub and GitLab operate, as certificates
// name them.
var runnersHosted = []string{"github-hosted", "gitlab-hosted"}

// zones judges whether the platform's zones ran as separate users.
func zones(i attest.Isolation) judged {
	switch i.Zones {
	case attest.SeparateUsers:
		return judged{IsMet, "the provenance says that the platform's zones ran as " + i.Zones}
	case "":
		return judged{NotKnown, "the provenance does not say whether the platform's zones ran as separate users"}
	}
	return judged{NotMet, fmt.Sprintf("zones of the platform in the provenance: got %q, want %q", i.Zones, attest.SeparateUsers)}
}

// namespaces judges whether the build had the namespaces without which it sees the
// host or other builds.
func namespaces(i attest.Isolation) judged {
	missing := i.Missing("user", "mount", "pid", "ipc")
	switch {
	case strings.TrimSpace(i.Namespaces) == "":
		return judged{NotKnown, "the provenance does not say which namespaces isolated the build"}
	case missing != "":
		return judged{NotMet, fmt.Sprintf("namespaces of the build in the provenance: got %q, want %q among them", i.Namespaces, missing)}
	}
	return judged{IsMet, "the provenance says that the build had its own namespaces: " + i.Namespaces}
}

// reach judges whether the build could reach public addresses and no others. A service
// in a private network may trust whoever reaches it, and hand one build's bytes to the next.
func reach(i attest.Isolation) judged {
	switch strings.TrimSpace(i.Reach) {
	case attest.PublicNetwork:
		return judged{IsMet, "the provenance says that the build could reach only public addresses"}
	case "":
		return judged{NotKnown, "the provenance does not say which addresses the build could reach"}
	}
	return judged{NotMet, fmt.Sprintf("addresses that the build could reach in the provenance: got %q, want %q", i.Reach, attest.PublicNetwork)}
}

// cacheMounts judges whether the build's cache mounts began empty. A kept one hands files of
// one build to the next: "It MUST NOT be possible for one build to inject false entries into
// a build cache used by another build" (slsa.dev/spec/v1.2/build-requirements, "Isolated").
func cacheMounts(i attest.Isolation) judged {
	switch i.CacheMounts {
	case attest.EmptyCacheMounts:
		return judged{IsMet, "the provenance says that the build's cache mounts began empty"}
	case "":
		return judged{NotKnown, "the provenance does not say whether the build's cache mounts began empty"}
	case attest.KeptCacheMounts:
		return judged{NotMet, "cache mounts are kept between builds, says the provenance"}
	}
	return judged{NotMet, fmt.Sprintf("cache mounts of the build in the provenance: got %q, want %q", i.CacheMounts, attest.EmptyCacheMounts)}
}
