package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/trust"
)

// Requirement is one requirement of SLSA's Build track
// (slsa.dev/spec/v1.2/build-requirements, "Overview"), and whether a build met it.
type Requirement struct {
	Name     string `json:"name"`
	Level    int    `json:"level"` // the lowest Build level that demands it
	Status   Met    `json:"status"`
	Evidence string `json:"evidence"` // one line for people: what says so, or what is missing
}

// Met says whether a requirement is met.
type Met string

const (
	IsMet    Met = "met"
	NotMet   Met = "not met"
	NotKnown Met = "not known" // never counts as met
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

// Requirements answers which requirements of SLSA's Build track the provenance
// attached to an image meets, to one who demands nothing but opts.Policy of it.
// It reads the provenance alone, and is no verdict on the image.
func Requirements(ctx context.Context, src oci.Source, image v1.Descriptor, opts Options) []Requirement {
	c := &check{src: src, opts: opts, about: aboutOf(image)}
	v := &Verdict{Digest: image.Digest.String()}
	if err := c.ready(); err != nil {
		return noBuild(Link{Name: LinkProvenance, Status: Unknown, Reason: err.Error()})
	}
	ev := c.gather(ctx, image.Digest)
	c.proven = ev.best(attest.PredicateSLSA1, nil)
	v.add(c.provenanceLink(ev, c.proven))
	if len(ev.workflows) > 0 && !c.proven.good() {
		links, best := c.workflowLinks(ev)
		c.proven, v.Links = &best.candidate, links
	}
	c.require(v)
	return v.Requirements
}

func aboutOf(image v1.Descriptor) string {
	if image.MediaType.IsIndex() {
		return "index"
	}
	return "manifest"
}

// built is what the requirements are judged by: a provenance that holds, and
// whom the consumer believes.
type built struct {
	provenance string            // which one, and what it is about
	signed     string            // by whom, when, where it is logged
	unlogged   bool              // no log or clock stands behind the signature
	process    string            // build type
	builder    trust.Builder     // with the level that it is believed for
	by         string            // who says so; empty where nobody does
	runner     string            // of a workflow's certificate
	room       map[string]string // internal parameters of Colophon's own builders; nil of others
	pinned     pinned            // likewise
}

// requirements judges a build. A level is believed, because a trust root or the
// policy maps the builder to it: no build can show from the inside what it runs
// in. What the provenance says of the room can only take away from that.
func (b built) requirements() []Requirement {
	unforgeable, isolated := b.believed(3), b.believed(3)
	if b.room != nil {
		unforgeable = unforgeable.and(b.zones())
		isolated = isolated.and(b.namespaces())
	}
	authentic := judged{IsMet, b.signed}
	if b.unlogged {
		authentic.status = NotMet
	}
	consistent := judged{IsMet, "build type " + b.process + ", whose parameters agree with its certificate"}
	if p := b.pinned.String(); p != "" {
		consistent.evidence += "; " + p
	}
	hosted := b.believed(2)
	switch {
	case b.runner == "":
	case slices.Contains(runnersHosted, b.runner):
		hosted = hosted.and(judged{IsMet, "its certificate says that the runner was " + b.runner})
	default:
		// Whoever runs the machine can run anything on it.
		own := judged{NotMet, fmt.Sprintf("its certificate says that the runner was %q", b.runner)}
		hosted, unforgeable, isolated = hosted.and(own), unforgeable.and(own), isolated.and(own)
	}
	return list(map[string]judged{
		reqPlatform:    b.believed(1),
		reqConsistent:  consistent,
		reqDistributed: {IsMet, "it was found with what it is about"},
		reqExists:      {IsMet, b.provenance},
		reqAuthentic:   authentic,
		reqUnforgeable: unforgeable,
		reqHosted:      hosted,
		reqIsolated:    isolated,
	})
}

// noBuild are the requirements where no provenance holds; l says why.
func noBuild(l Link) []Requirement {
	status := NotMet
	if l.Status == Unknown || l.Status == NotAsked {
		status = NotKnown
	}
	all := map[string]judged{reqExists: {status, l.Reason}}
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
		out = append(out, Requirement{r.name, r.level, j.status, plain(j.evidence)})
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

// believed says whether the builder is believed for a level.
func (b built) believed(level int) judged {
	switch {
	case b.by == "" || b.builder.Level == 0:
		return judged{NotKnown, fmt.Sprintf("nobody that is believed says which level %s reaches", b.builder.ID)}
	case b.builder.Level < level:
		return judged{NotMet, fmt.Sprintf("%s is believed for Build L%d, by %s", b.builder.ID, b.builder.Level, b.by)}
	}
	return judged{IsMet, fmt.Sprintf("%s is believed for Build L%d, by %s", b.builder.ID, b.builder.Level, b.by)}
}

// runnersHosted are the machines that GitHub and GitLab run, as certificates
// name them.
var runnersHosted = []string{"github-hosted", "gitlab-hosted"}

// separateUsers is how a platform says that its zones are users of their own: the
// build cannot reach what signs (internal parameter "zones").
const separateUsers = "separate users"

func (b built) zones() judged {
	switch got := b.room["zones"]; got {
	case separateUsers:
		return judged{IsMet, "its provenance says that the platform's zones were " + got}
	case "":
		return judged{NotKnown, "its provenance does not say whether the platform's zones were separate users"}
	default:
		return judged{NotMet, fmt.Sprintf("its provenance says that the platform's zones were %q, want %q", got, separateUsers)}
	}
}

// roomNamespaces are those without which a build sees the host or other builds.
var roomNamespaces = []string{"user", "mount", "pid", "ipc"}

func (b built) namespaces() judged {
	got := strings.Fields(b.room["namespaces"])
	if len(got) == 0 {
		return judged{NotKnown, "its provenance does not say what kept the room apart"}
	}
	for _, want := range roomNamespaces {
		if !slices.Contains(got, want) {
			return judged{NotMet, fmt.Sprintf("its provenance says that the room had the namespaces %q, want %q among them", b.room["namespaces"], want)}
		}
	}
	return judged{IsMet, "its provenance says that the room had namespaces of its own: " + b.room["namespaces"]}
}
