// Package investigate answers the questions that people ask after an incident: where does an image
// come from, where does its proof break, and what else is concerned.
//
// Run asks a fixed list of questions about a Subject, and returns a Case. It asks the registry, the
// transparency log, the repository, and whoever else the caller names as an Asker; a question that
// nobody could be asked is in the case, with the reason. Conclude draws the conclusions: the broken
// link, the time line, what to do. It is a pure function of the answers, so that whoever reads a case
// computes them again. Package investigate/casefile keeps a case with its evidence in a file.
package investigate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

// Version is the version of the format (spec/case/v1).
const Version = 1

// Kind says what an investigation starts from.
type Kind string

// Kinds of subjects.
const (
	Image    Kind = "image"    // reference or digest of an image
	Commit   Kind = "commit"   // full id of a commit
	Builder  Kind = "builder"  // builder id
	Identity Kind = "identity" // subject alternative name of a signer
	Base     Kind = "base"     // digest of a base image
	Package  Kind = "package"  // NAME@VERSION
	Fetched  Kind = "fetched"  // URL of a download
	Host     Kind = "host"     // host that built
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Image, Commit, Builder, Identity, Base, Package, Fetched, Host} }

// Subject is what is investigated.
type Subject struct {
	Kind   Kind       `json:"kind"`
	Name   string     `json:"name"`             // as the investigator named it
	Digest string     `json:"digest,omitempty"` // of an image, "sha256:HEX"
	Source string     `json:"source,omitempty"` // repository that is expected, and asked; empty: none is
	Since  *time.Time `json:"since,omitempty"`  // only what was certified at this time or later
	Until  *time.Time `json:"until,omitempty"`  // only what was certified before
}

// Case is what an investigation found.
type Case struct {
	Version int       `json:"version"`
	Subject Subject   `json:"subject"`
	At      time.Time `json:"at"`    // when it was asked, by the clock of the investigator, UTC
	By      string    `json:"by"`    // program and version
	Trust   []string  `json:"trust"` // fingerprints of the trust roots of the investigator
	Policy  string    `json:"policy,omitempty"`

	Answers []Answer `json:"answers"` // in the order of Questions

	// What follows from the answers: see Conclude.
	Conclusion Conclusion `json:"conclusion"`
}

// Outcome says whether a question was answered.
type Outcome string

// Outcomes of questions.
const (
	Answered Outcome = "answered"
	NotAsked Outcome = "not asked"
	Failed   Outcome = "failed" // it was asked, and there was no answer
)

// Answer is the answer to one question.
type Answer struct {
	ID       ID       `json:"id"`
	Question string   `json:"question"`        // in words
	Asked    string   `json:"asked,omitempty"` // of whom: a registry, a log, a repository
	Query    string   `json:"query,omitempty"` // what was asked
	Outcome  Outcome  `json:"outcome"`
	Why      string   `json:"why,omitempty"`      // why there is no answer
	Facts    Facts    `json:"facts,omitzero"`     // what was answered
	Evidence []string `json:"evidence,omitempty"` // digests of what shows it, "sha256:HEX"
}

// Facts are what was answered. Each question has its own member.
type Facts struct {
	Verdict  *verify.Verdict      `json:"verdict,omitempty"`
	Standing *Standing            `json:"standing,omitempty"`
	Holding  *verify.Facts        `json:"holding,omitempty"` // the proofs that the verdict rests on; if it rests on none, those that hold whatever is demanded
	Others   []Build              `json:"others,omitempty"`  // proofs that hold too, of other commits than Holding
	Commit   *source.CommitObject `json:"commit,omitempty"`
	Review   *track.Result        `json:"review,omitempty"`
	History  []RefMove            `json:"history,omitempty"`
	Pages    []int64              `json:"pages,omitempty"` // of History: as in Found
	Bases    []BaseImage          `json:"bases,omitempty"`
	Fetches  []Fetch              `json:"fetches,omitempty"`
	Found    *Found               `json:"found,omitempty"`
	Releases []Release            `json:"releases,omitempty"`
	Tags     []Tag                `json:"tags,omitempty"`
	Running  []Running            `json:"running,omitempty"`
	Sources  *Sources             `json:"sources,omitempty"`
	Decided  *Decided             `json:"decided,omitempty"`
	Distrust *Distrusted          `json:"distrust,omitempty"`
}

// Build is a commit that a provenance which holds names.
type Build struct {
	Source  string          `json:"source"`
	Ref     string          `json:"ref,omitempty"`
	Commit  string          `json:"commit"`
	Builder string          `json:"builder"`
	Signed  []verify.Signed `json:"signed"`
}

// Standing is what a repository says about a commit and its ref.
type Standing struct {
	URI    string           `json:"uri"`
	Commit string           `json:"commit"`
	Ref    string           `json:"ref,omitempty"`
	There  bool             `json:"there"` // the repository serves the commit
	Status source.RefStatus `json:"status,omitempty"`
	Now    string           `json:"now,omitempty"`    // commit that the ref leads to
	Within string           `json:"within,omitempty"` // without a ref: a branch or tag that has the commit
	// Back reports that the branch now ends at an ancestor of the commit: what came later was
	// taken away.
	Back bool `json:"back,omitempty"`
}

// RefMove says to which commit a ref led when somebody looked.
type RefMove struct {
	Time   time.Time `json:"time"`
	Ref    string    `json:"ref"`
	Commit string    `json:"commit"`
	Entry  *int64    `json:"entry,omitempty"` // of the log, which proves it; nil: a platform says so
}

// BaseImage is a base image that provenance names.
type BaseImage struct {
	URI     string         `json:"uri"`
	Digest  string         `json:"digest"`
	Outcome verify.Outcome `json:"outcome"`
	Why     string         `json:"why,omitempty"`
	Asked   bool           `json:"asked"`
}

// Fetch is a download of a build, asked for again.
type Fetch struct {
	URI    string      `json:"uri"`
	Want   string      `json:"want"` // digest that the build got
	Got    string      `json:"got,omitempty"`
	Status FetchStatus `json:"status"`
	Why    string      `json:"why,omitempty"`
}

// FetchStatus says what became of a download.
type FetchStatus string

// Statuses of downloads.
const (
	FetchSame    FetchStatus = "same"
	FetchOther   FetchStatus = "other bytes"
	FetchGone    FetchStatus = "gone"
	FetchUnknown FetchStatus = "not known"
)

// Found is what a log has about a key: with proof that it has no other entries.
type Found struct {
	Log     string      `json:"log"` // URL
	Kind    search.Kind `json:"kind"`
	Value   string      `json:"value"`
	Total   int64       `json:"total"`             // entries with the key, of any time
	Indexed int64       `json:"indexed"`           // the answer is about the entries of the log before this one
	Entries []Entry     `json:"entries"`           // the newest, as far as they were read
	From    int64       `json:"from"`              // entries before this index were not read
	Until   *int64      `json:"until,omitempty"`   // nor were those from this one on; missing: there are none
	Filling bool        `json:"filling,omitempty"` // the archive lacks some of what its registry had before it: it was not searched whole
	Pages   []int64     `json:"pages"`             // index at which each page of the answer starts; the first items of the evidence
}

// Entry is an entry of a log, as far as everybody can read it.
type Entry struct {
	Index    int64      `json:"index"`
	Leaf     string     `json:"leaf"`             // leaf hash, hex
	Issued   *time.Time `json:"issued,omitempty"` // start of the newest certificate in it
	Identity string     `json:"identity,omitempty"`
	Source   string     `json:"source,omitempty"`
	Commit   string     `json:"commit,omitempty"`
	Ref      string     `json:"ref,omitempty"`
	Vouched  bool       `json:"vouched,omitempty"` // an authority of a trust root issued each certificate in it
	About    []string   `json:"about,omitempty"`   // digests of what it signs, from the archive; empty: not known
}

// Release is a release that a platform remembers.
type Release struct {
	ID     string    `json:"id"`
	State  string    `json:"state"`
	Image  string    `json:"image"`
	Digest string    `json:"digest,omitempty"`
	Tags   []string  `json:"tags,omitempty"`
	Source string    `json:"source"`
	Ref    string    `json:"ref"`
	Commit string    `json:"commit,omitempty"`
	Actor  string    `json:"actor,omitempty"`
	Asked  time.Time `json:"asked"`
	Ended  time.Time `json:"ended,omitzero"`
}

// Tag is a tag of a registry that leads to the image.
type Tag struct {
	Name   string `json:"name"`   // REGISTRY/NAME:TAG
	Digest string `json:"digest"` // where it leads now
}

// Running is something that runs an image, or ran it.
type Running struct {
	Where  string    `json:"where"`  // cluster, namespace, kind and name
	Image  string    `json:"image"`  // as it names the image
	Digest string    `json:"digest"` // "sha256:HEX"
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"` // zero: it still runs
}

// Evidence keeps the bytes that show something, by digest. It is safe for concurrent use.
type Evidence struct {
	mu       sync.Mutex
	byDigest map[string][]byte
	size     int64
}

const maxEvidence = 256 << 20 // bytes of all evidence of a case

// Add keeps data and returns its digest. It fails if there is more than a case may have.
func (e *Evidence) Add(data []byte) (string, error) {
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byDigest == nil {
		e.byDigest = map[string][]byte{}
	}
	if _, have := e.byDigest[digest]; have {
		return digest, nil
	}
	if e.size+int64(len(data)) > maxEvidence {
		return "", fmt.Errorf("evidence: more than %d bytes", maxEvidence)
	}
	e.byDigest[digest], e.size = data, e.size+int64(len(data))
	return digest, nil
}

// Get returns what has the digest, or nil.
func (e *Evidence) Get(digest string) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byDigest[digest]
}

// Digests returns all digests, sorted.
func (e *Evidence) Digests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]string, 0, len(e.byDigest))
	for d := range e.byDigest {
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

// MaxCase is the limit of a case as JSON, in bytes.
const MaxCase = 64 << 20

// Parse reads a case strictly. It checks the form, and none of what the case says.
func Parse(data []byte) (*Case, error) {
	var c Case
	if err := strict.UnmarshalKnown(data, MaxCase, &c); err != nil {
		return nil, err
	}
	if c.Version != Version {
		return nil, fmt.Errorf("version: expected %d, found %d", Version, c.Version)
	}
	if !slices.Contains(Kinds(), c.Subject.Kind) {
		return nil, fmt.Errorf("subject: there is no kind %q", c.Subject.Kind)
	}
	if d := c.Subject.Digest; d != "" && !search.IsDigest(d) {
		return nil, fmt.Errorf("subject: expected a digest, found %q", d)
	}
	want := QuestionsAbout(c.Subject.Kind)
	if len(c.Answers) != len(want) {
		return nil, fmt.Errorf("answers: expected %d, found %d", len(want), len(c.Answers))
	}
	for i, a := range c.Answers {
		switch q := want[i]; {
		case a.ID != q.ID || a.Question != q.Text:
			return nil, fmt.Errorf("answer %d: expected %s, %q, found %s, %q", i+1, q.ID, q.Text, a.ID, a.Question)
		case a.Outcome != Answered && a.Outcome != NotAsked && a.Outcome != Failed:
			return nil, fmt.Errorf("answer %s: there is no outcome %q", a.ID, a.Outcome)
		case slices.ContainsFunc(a.Evidence, func(d string) bool { return !isDigest(d) }):
			return nil, fmt.Errorf("answer %s: evidence: expected digests, sha256:HEX, found %q", a.ID, a.Evidence)
		case (a.Outcome == Answered) == (a.Why != ""):
			return nil, fmt.Errorf("answer %s: %s, with the reason %q", a.ID, a.Outcome, a.Why)
		}
		if err := a.checkEmpty(); err != nil {
			return nil, fmt.Errorf("answer %s: %w", a.ID, err)
		}
	}
	return &c, c.checkDigest()
}

// checkEmpty fails if a question without an answer has facts, from which conclusions could follow.
func (a Answer) checkEmpty() error {
	if a.Outcome != Answered && (!reflect.ValueOf(a.Facts).IsZero() || len(a.Evidence) > 0) {
		return fmt.Errorf("%s, and it has facts or evidence", a.Outcome)
	}
	return nil
}

// checkDigest fails if the subject has another digest than the verdict, or than its name says.
func (c *Case) checkDigest() error {
	want, query := "", ""
	if a := c.Answer(AskChain); a.Facts.Verdict != nil {
		want, query = a.Facts.Verdict.Digest, a.Query
	}
	if c.Subject.Digest != want {
		return fmt.Errorf("subject: expected the digest of the verdict, %q, found %q", want, c.Subject.Digest)
	}
	name := c.Subject.Name[strings.LastIndexByte(c.Subject.Name, '@')+1:]
	if want != "" && search.IsDigest(name) && name != query {
		return fmt.Errorf("subject: the name has the digest %s, and %q was asked for", name, query)
	}
	return nil
}

// isDigest reports whether s can be the digest of evidence.
func isDigest(s string) bool { return strings.HasPrefix(s, "sha256:") && search.IsDigest(s) }

// Answer returns the answer to a question; the zero Answer if it is not about the subject.
func (c *Case) Answer(id ID) Answer {
	for _, a := range c.Answers {
		if a.ID == id {
			return a
		}
	}
	return Answer{ID: id}
}

// ID names a question.
type ID string

// The questions.
const (
	AskChain    ID = "chain"    // verdict
	AskStanding ID = "standing" // of commit and ref
	AskCommit   ID = "commit"
	AskReview   ID = "review"
	AskHistory  ID = "history" // of the ref
	AskSources  ID = "sources" // SBOM against the source
	AskBases    ID = "bases"
	AskFetched  ID = "fetched"
	AskReleases ID = "releases"
	AskTags     ID = "tags"

	AskSameDigest   ID = "same digest"
	AskSameCommit   ID = "same commit"
	AskSameSource   ID = "same source"
	AskSameIdentity ID = "same identity"
	AskSameBase     ID = "same base"
	AskSamePackage  ID = "same package"
	AskSameFetch    ID = "same download"
	AskSameHost     ID = "same host"

	AskRunning   ID = "running"
	AskDecided   ID = "decided"
	AskDistrust  ID = "distrust"
	AskRebuilder ID = "rebuilders"
)

// Question is a question of an investigation.
type Question struct {
	ID   ID
	Text string
}

var questions = []struct {
	Question
	about []Kind // empty: images
}{
	{Question{AskChain, "Which commit does it come from, who signed it, and when was it logged?"}, nil},
	{Question{AskStanding, "Does the commit still exist, and does the ref still lead there?"}, []Kind{Image, Commit}},
	{Question{AskCommit, "Who wrote and committed the commit?"}, []Kind{Image, Commit}},
	{Question{AskReview, "Who reviewed the commit?"}, []Kind{Image, Commit}},
	{Question{AskHistory, "Where did the ref lead before and after?"}, nil},
	{Question{AskSources, "Do the SBOMs name the source of the provenance?"}, nil},
	{Question{AskBases, "Do the base images prove themselves?"}, nil},
	{Question{AskFetched, "Do the downloads of the build still have these bytes?"}, nil},
	{Question{AskReleases, "Which releases does the platform remember?"}, []Kind{Image, Commit, Builder}},
	{Question{AskTags, "Which tags lead to it?"}, nil},
	{Question{AskSameDigest, "What else was signed about this digest?"}, nil},
	{Question{AskSameCommit, "What else was signed for this commit?"}, []Kind{Image, Commit}},
	{Question{AskSameSource, "What else was signed for this repository?"}, nil},
	{Question{AskSameIdentity, "What else did this identity sign?"}, []Kind{Image, Builder, Identity}},
	{Question{AskSameBase, "Which images have this base?"}, []Kind{Image, Base}},
	{Question{AskSamePackage, "Which images have this package?"}, []Kind{Package}},
	{Question{AskSameFetch, "Which builds fetched this?"}, []Kind{Fetched}},
	{Question{AskSameHost, "Which images were built on this host?"}, []Kind{Image, Host}},
	{Question{AskRunning, "Where does it run?"}, Kinds()},
	{Question{AskDecided, "Which decisions were recorded about it?"}, Kinds()},
	{Question{AskDistrust, "Is it distrusted already?"}, Kinds()},
	{Question{AskRebuilder, "What did rebuilders say?"}, nil},
}

// QuestionsAbout returns the questions about a kind of subject, in the order of a case.
func QuestionsAbout(k Kind) (out []Question) {
	for _, q := range questions {
		if k == Image && q.about == nil || slices.Contains(q.about, k) {
			out = append(out, q.Question)
		}
	}
	return out
}

// Check fails if the name of a subject cannot be one of its kind.
func (s Subject) Check() error {
	if s.Name == "" || len(s.Name) > limits.FetchURL {
		return fmt.Errorf("%s: expected 1 to %d bytes, found %d", s.Kind, limits.FetchURL, len(s.Name))
	}
	switch s.Kind {
	case Commit:
		if !source.IsCommitID(s.Name) {
			return fmt.Errorf("commit: expected 40 or 64 hex digits in lower case, found %q", s.Name)
		}
	case Package:
		if at := strings.LastIndex(s.Name, "@"); at < 1 || at == len(s.Name)-1 {
			return fmt.Errorf("package: expected NAME@VERSION, found %q", s.Name)
		}
	case Base:
		if !search.IsDigest(s.Name) {
			return fmt.Errorf("base: expected a digest, sha256:HEX, found %q", s.Name)
		}
	}
	return nil
}
