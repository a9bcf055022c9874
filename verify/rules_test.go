package verify

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

var (
	errWrong   = errors.New("it is wrong")
	errTheirs  = errors.New("not theirs to sign")
	errMissing = fmt.Errorf("x: %w", oci.ErrNotFound)
	noon       = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
)

// ago returns how a time before noon is written.
func ago(d time.Duration) time.Time { return noon.Add(-d) }

// TestSameRelease: parts of two releases never add up, whichever field tells them apart.
func TestSameRelease(t *testing.T) {
	of := func(root *trust.Root, change func(*certificate.Summary)) *proof {
		id := certificate.Summary{SubjectAlternativeName: "https://p.example.com/builders/x", Extensions: certificate.Extensions{
			Issuer: "https://p.example.com", SourceRepositoryURI: "https://git.example.com/a", SourceRepositoryDigest: "c", SourceRepositoryRef: "refs/tags/v1", BuildConfigDigest: "sha256:aa",
		}}
		if change != nil {
			change(&id)
		}
		return &proof{Result: &bundle.Result{Identity: id}, root: root}
	}
	root, twin := &trust.Root{}, &trust.Root{}
	beside := of(root, nil)
	if err := sameRelease(of(root, nil), beside); err != nil {
		t.Error(err)
	}
	for want, p := range map[string]*proof{
		"signer: got":                          of(twin, nil),
		`signer: got "other"`:                  of(root, func(s *certificate.Summary) { s.SubjectAlternativeName = "other" }),
		"want the signer of the provenance":    of(root, func(s *certificate.Summary) { s.Issuer = "other" }),
		"got git+https://git.example.com/b":    of(root, func(s *certificate.Summary) { s.SourceRepositoryURI = "https://git.example.com/b" }),
		`at commit "other"`:                    of(root, func(s *certificate.Summary) { s.SourceRepositoryDigest = "other" }),
		"a@refs/tags/v2":                       of(root, func(s *certificate.Summary) { s.SourceRepositoryRef = "refs/tags/v2" }),
		"digest of the external parameters in": of(root, func(s *certificate.Summary) { s.BuildConfigDigest = "" }),
	} {
		if err := sameRelease(p, beside); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// signedProof is a proof that passed the given number of checks.
func signedProof(passed int, signature, signer, says error) *proof {
	return &proof{Result: &bundle.Result{Passed: passed, Signature: signature}, signer: signer, says: says}
}

// TestBestProof: what holds is better than what does not, and of what does not, the one
// that passed most checks says why. Of equals, the first.
func TestBestProof(t *testing.T) {
	order := []*proof{
		signedProof(0, errWrong, nil, nil), signedProof(4, errWrong, nil, nil), signedProof(0, nil, errTheirs, nil), signedProof(1, nil, errTheirs, errWrong), signedProof(0, nil, nil, errWrong), signedProof(5, nil, nil, errWrong), signedProof(0, nil, nil, nil),
	}
	var all []ref
	for i, p := range order {
		if i > 0 && p.passed() <= order[i-1].passed() {
			t.Errorf("proof %d passes %d, the one before it %d", i, p.passed(), order[i-1].passed())
		}
		all = append(all, ref{&item{}, p, p.fault()})
	}
	for i := range all {
		if got := best(all[:i+1]); got != all[i] {
			t.Errorf("the best of %d: got %+v", i+1, got)
		}
	}
	twin := all[1]
	twin.item = &item{}
	if got := best([]ref{all[1], twin}); got != all[1] {
		t.Error("of equals, the first is the best")
	}
	if got := best(nil); got != (ref{}) || got.holds() || got.passed() != 0 {
		t.Errorf("the best of none: got %+v", got)
	}
	// What holds by itself and is of another release is no better than any that fails.
	foreign := ref{&item{}, order[len(order)-1], errWrong}
	if foreign.holds() || foreign.passed() >= all[len(all)-1].passed() || foreign.passed() > 999 {
		t.Errorf("of another release: passed %d", foreign.passed())
	}
	for want, p := range map[error]*proof{errWrong: signedProof(0, errWrong, errTheirs, errTheirs), errTheirs: signedProof(0, nil, errTheirs, errWrong), nil: signedProof(0, nil, nil, nil)} {
		if got := p.fault(); got != want {
			t.Errorf("fault: got %v, want %v", got, want)
		}
	}
}

// TestRefsOfEvidence: an item that cannot be read may be of any kind, and one that can be
// read answers only for its own kind and rules.
func TestRefsOfEvidence(t *testing.T) {
	good := signedProof(5, nil, nil, nil)
	good.rules = ofPlatform
	worse := signedProof(1, errWrong, nil, nil)
	worse.rules = ofPlatform
	public := signedProof(5, nil, nil, nil)
	public.rules = ofPublic
	sbomItem, unknown, other := &item{kind: attest.PredicateSPDX, err: errWrong}, &item{err: errWrong}, &item{kind: attest.PredicateVSA, form: errTheirs}
	twin := *good // of equals, the first
	platform := &item{kind: attest.PredicateSPDX, proofs: []*proof{worse, good, &twin, public}}
	mine := &item{kind: attest.PredicateSPDX, proofs: []*proof{public}}
	ev := &evidence{items: []*item{sbomItem, unknown, other, platform, mine}}
	spdx := ofKind(attest.PredicateSPDX)
	if got := fmt.Sprint(ev.refs(ofPlatform, spdx, nil)); got != fmt.Sprint([]ref{{item: sbomItem, err: errWrong}, {item: unknown, err: errWrong}, {platform, good, nil}}) {
		t.Errorf("of platforms: got %s", got)
	}
	if got := fmt.Sprint(ev.refs(ofPublic, spdx, nil)); got != fmt.Sprint([]ref{{platform, public, nil}, {mine, public, nil}}) {
		t.Errorf("of public builders: got %s", got)
	}
	if got := ev.refs(ofPlatform, ofKind(attest.PredicateVSA), nil); len(got) != 2 || got[1].err != errTheirs {
		t.Errorf("of another form: got %+v", got)
	}
	// By any signer: who signed comes before what it says.
	asked := 0
	anyone := &item{kind: attest.PredicateVSA, anyone: []*proof{signedProof(1, errWrong, nil, nil), signedProof(5, nil, nil, nil), signedProof(5, nil, nil, nil)}}
	ev = &evidence{items: []*item{unknown, {kind: attest.PredicateSPDX, err: errTheirs}, {kind: attest.PredicateVSA, err: errMissing}, {kind: attest.PredicateVSA}, {kind: attest.PredicateSPDX, anyone: anyone.anyone}, anyone}}
	found := ev.signedBy(ofKind(attest.PredicateVSA), func(p *proof) error {
		if asked++; asked == 1 {
			return errTheirs
		}
		return nil
	}, func(it *item, p *proof) error {
		if it != anyone || p != anyone.anyone[2] {
			t.Errorf("what %+v says was read", p)
		}
		return nil
	})
	if len(found) != 3 || found[0].err != errWrong || found[1].err != errMissing || found[2].proof != anyone.anyone[2] || !found[2].holds() || asked != 2 {
		t.Errorf("got %+v after %d questions", found, asked)
	}
}

// TestUnreadEvidence: what could not be read may have been the evidence, unless its kind
// is known to be another.
func TestUnreadEvidence(t *testing.T) {
	takes := ofKind(attest.PredicateVSA)
	for name, test := range map[string]struct {
		ev       evidence
		furthest ref
		status   Status
		reason   string
	}{
		"listing":             {evidence{err: errMissing}, ref{}, Unknown, "x: not found"},
		"unknown kind":        {evidence{items: []*item{{err: errWrong, unread: true}}}, ref{}, Unknown, "it is wrong"},
		"its kind":            {evidence{items: []*item{{kind: attest.PredicateVSA, err: errWrong, unread: true}}}, ref{}, Unknown, "it is wrong"},
		"another kind":        {evidence{items: []*item{{kind: attest.PredicateSPDX, err: errWrong, unread: true}}}, ref{}, Absent, "the image carries no summary"},
		"malformed":           {evidence{items: []*item{{err: errWrong}}}, ref{item: &item{}, err: errWrong}, Broken, "it is wrong"},
		"nothing":             {evidence{}, ref{}, Absent, "the image carries no summary"},
		"file, nothing":       {evidence{file: true}, ref{}, Absent, "there is no bundle"},
		"file, other bundles": {evidence{file: true, items: []*item{{}}}, ref{}, Absent, "there is no summary"},
	} {
		l := test.ev.lacking("summary", takes, "summary", test.furthest)
		if l.Name != "summary" || l.Status != test.status || l.Reason != test.reason {
			t.Errorf("%s: got %+v, want %s: %s", name, l, test.status, test.reason)
		}
	}
	for err, want := range map[error]Status{errMissing: Absent, errWrong: Unknown, fmt.Errorf("x: %w", oci.ErrMismatch): Broken, fmt.Errorf("x: %w", errImage): Broken} {
		if got := statusOf(err); got != want || permanent(err) != (want != Unknown) && !errors.Is(err, errImage) {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
}

// TestLastWord: the newest statement counts; what has no time may be the newest, and of
// several at one time each must be as demanded.
func TestLastWord(t *testing.T) {
	for name, test := range map[string]struct {
		said []word
		ok   bool
	}{
		"none":                       {nil, true},
		"good":                       {[]word{{noon, nil}}, true},
		"bad":                        {[]word{{noon, errWrong}}, false},
		"bad, then good":             {[]word{{noon, nil}, {ago(1), errWrong}}, true},
		"good, then bad":             {[]word{{ago(1), nil}, {noon, errWrong}}, false},
		"both at once":               {[]word{{noon, errWrong}, {noon, nil}}, false},
		"bad without a time":         {[]word{{noon, nil}, {time.Time{}, errWrong}}, false},
		"good without a time":        {[]word{{ago(1), errWrong}, {noon, nil}, {time.Time{}, nil}}, true},
		"bad, and good without time": {[]word{{noon, errWrong}, {time.Time{}, nil}}, false},
	} {
		if err := lastWord(test.said); (err == nil) != test.ok {
			t.Errorf("%s: got %v, want it good: %v", name, err, test.ok)
		}
	}
	at := func(times ...time.Time) *proof { return &proof{Result: &bundle.Result{Times: times}} }
	if got := lastTime(at(ago(2), noon, ago(1))); !got.Equal(noon) {
		t.Errorf("the last of three times: got %s", got)
	}
	// A summary is no newer than its signature, or than now.
	c := &check{now: noon}
	early, late, future := ago(time.Hour), noon.Add(bundle.ClockSkew), noon.Add(bundle.ClockSkew+1)
	for name, test := range map[string]struct {
		verified *time.Time
		p        *proof
		want     time.Time
		ok       bool
	}{
		"signed and verified": {&early, at(ago(time.Minute)), ago(time.Minute), true},
		"signed":              {nil, at(early), early, true},
		"verified":            {&early, at(), early, true},
		"neither":             {nil, at(), time.Time{}, true},
		"at most the skew":    {&late, at(noon), noon, true},
		"after its signature": {&future, at(noon), noon, false},
		"in the future":       {&future, at(), time.Time{}, false},
		"after an old one":    {&late, at(early), early, false},
	} {
		got, err := c.timeOf(&attest.VSA{TimeVerified: test.verified}, test.p)
		if (err == nil) != test.ok || test.ok && !got.Equal(test.want) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, test.want)
		}
	}
}

// TestLastSummary: the last summary by a verifier counts. Of two at one time, and of those
// that nothing dates, the one that failed does.
func TestLastSummary(t *testing.T) {
	const id, resource = "https://v.example.com/x", "pkg:oci/app"
	by := policy.Verifier{ID: id, Signer: policy.Identity{Name: "v", Issuer: "https://v.example.com"}}
	say := func(result string, times ...time.Time) *item {
		return &item{kind: attest.PredicateVSA, vsa: &attest.VSA{Verifier: attest.VSAVerifier{ID: id}, ResourceURI: resource, VerificationResult: result, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_3"}},
			anyone: []*proof{{Result: &bundle.Result{Times: times, Identity: certificate.Summary{SubjectAlternativeName: "v", Extensions: certificate.Extensions{Issuer: "https://v.example.com"}}}}}}
	}
	passed, failed := attest.VSAPassed, attest.VSAFailed
	c := &check{now: noon}
	for name, test := range map[string]struct {
		items []*item
		want  string
	}{
		"passed":                        {[]*item{say(passed, noon)}, passed},
		"failed, then passed":           {[]*item{say(passed, noon), say(failed, ago(1))}, passed},
		"passed, then failed":           {[]*item{say(failed, noon), say(passed, ago(1))}, failed},
		"tie":                           {[]*item{say(failed, noon), say(passed, noon)}, failed},
		"tie in the other order":        {[]*item{say(passed, noon), say(failed, noon)}, failed},
		"passed, and failed without it": {[]*item{say(passed, ago(1)), say(failed)}, failed},
		"failed without, passed later":  {[]*item{say(failed), say(passed, ago(1))}, failed},
		"passed without a time":         {[]*item{say(passed)}, passed},
		"failed, and passed without it": {[]*item{say(failed, ago(1)), say(passed)}, failed},
	} {
		last, _ := c.lastSummary(&evidence{items: test.items}, by, resource)
		if last == nil || last.vsa.VerificationResult != test.want {
			t.Errorf("%s: got %+v, want %s", name, last, test.want)
		}
	}
	unread := append([]*item{say(passed, noon)}, &item{kind: attest.PredicateVSA, err: errWrong, unread: true})
	if last, l := c.lastSummary(&evidence{items: unread}, by, resource); last != nil || l.Status != Unknown {
		t.Errorf("one that could not be read may be the last: got %+v, %+v", last, l)
	}
	wrong := say(passed, noon)
	wrong.vsaErr = errWrong
	if last, l := c.lastSummary(&evidence{items: []*item{wrong}}, by, resource); last != nil || l.Status != Broken || l.Reason != "it is wrong" {
		t.Errorf("one that cannot be parsed: got %+v, %+v", last, l)
	}
	if last, l := c.lastSummary(&evidence{items: []*item{say(passed, noon)}}, by, "pkg:oci/other"); last != nil || l.Status != Broken {
		t.Errorf("one about another resource: got %+v, %+v", last, l)
	}
	for want, s := range map[string]*summary{
		`PASSED by https://v.example.com/x, 2026-11-20 12:00:00Z: ["SLSA_BUILD_LEVEL_3"] of pkg:oci/app`: {vsa: say(passed).vsa, by: by, at: noon},
		`PASSED by https://v.example.com/x: ["SLSA_BUILD_LEVEL_3"] of pkg:oci/app`:                       {vsa: say(passed).vsa, by: by},
	} {
		if got := s.claim(); got != want {
			t.Errorf("claim: got %q, want %q", got, want)
		}
	}
}

// TestOutcome: accepted is only what holds wherever it is required; wrong is rejected, and
// unknown is undecided.
func TestOutcome(t *testing.T) {
	links := func(list ...Status) (v Verdict) {
		for i, s := range list {
			v.Links = append(v.Links, Link{Name: fmt.Sprint(i), Status: s, Reason: "r" + fmt.Sprint(i)})
		}
		return v
	}
	for name, test := range map[string]struct {
		v        Verdict
		required []bool
		want     Outcome
		why      string
	}{
		"all hold":               {links(Holds, Holds), []bool{true, true}, Accepted, ""},
		"absent, not required":   {links(Holds, Absent), []bool{true, false}, Accepted, ""},
		"absent":                 {links(Holds, Absent), []bool{true, true}, Rejected, "1: r1"},
		"broken, not required":   {links(Holds, Broken), []bool{true, false}, Rejected, "1: r1"},
		"unknown":                {links(Unknown, Holds), []bool{true, true}, Undecided, "0: r0"},
		"unknown, not required":  {links(Holds, Unknown), []bool{true, false}, Accepted, ""},
		"unknown, after another": {links(Unknown, Unknown), []bool{false, true}, Undecided, "1: r1"},
		"unknown and broken":     {links(Unknown, Broken), []bool{true, true}, Rejected, "1: r1"},
		"not asked, required":    {links(Holds, NotAsked), []bool{true, true}, Undecided, "1: r1"},
		"required, not there":    {links(Holds), []bool{true, true}, Undecided, "nothing was verified"},
		"nothing required":       {links(), nil, Accepted, ""},
	} {
		required := map[string]bool{}
		for i, r := range test.required {
			required[fmt.Sprint(i)] = r
		}
		if test.v.decide(required); test.v.Outcome != test.want || test.v.Why() != test.why {
			t.Errorf("%s: got %s, %q, want %s, %q", name, test.v.Outcome, test.v.Why(), test.want, test.why)
		}
	}
	for before, row := range map[Outcome]map[Status]Outcome{
		Accepted:  {Holds: Accepted, Broken: Rejected, Absent: Rejected, Unknown: Undecided, NotAsked: Undecided},
		Undecided: {Holds: Undecided, Broken: Rejected, Absent: Rejected, Unknown: Undecided},
		Rejected:  {Holds: Rejected, Broken: Rejected, Absent: Rejected, Unknown: Rejected},
	} {
		for status, want := range row {
			v := Verdict{Outcome: before}
			if v.addDemanded(Link{Status: status}); v.Outcome != want || len(v.Links) != 1 {
				t.Errorf("%s and a demanded link that is %s: got %s, want %s", before, status, v.Outcome, want)
			}
		}
	}
	for o, want := range map[Outcome]string{-1: "undecided", 3: "undecided", Undecided: "undecided", Accepted: "accepted", Rejected: "rejected"} {
		if o.String() != want {
			t.Errorf("outcome %d: got %s, want %s", o, o, want)
		}
	}
}

// TestSigners: a proof answers a demand for a signer only if it is by that name or key,
// with a log entry unless none is needed, under the root demanded.
func TestSigners(t *testing.T) {
	const pem1 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
	key, err := policy.ParseKey(pem1)
	if err != nil {
		t.Fatal(err)
	}
	loose := key
	loose.InsecureNoLog = true
	ada := policy.Identity{Name: "ada", Issuer: "https://a.example.com"}
	adas := certificate.Summary{SubjectAlternativeName: "ada", Extensions: certificate.Extensions{Issuer: "https://a.example.com"}}
	bobs := certificate.Summary{SubjectAlternativeName: "bob", Extensions: certificate.Extensions{Issuer: "https://a.example.com"}}
	by := func(k *bundle.Signer, id certificate.Summary) *proof {
		return &proof{Result: &bundle.Result{Identity: id}, key: k, root: &trust.Root{}}
	}
	of, ofLoose := SignerOf(key), SignerOf(loose)
	for name, test := range map[string]struct {
		demanded policy.Signer
		p        *proof
		ok       bool
	}{
		"identity":            {ada, by(nil, adas), true},
		"another identity":    {ada, by(nil, bobs), false},
		"key for an identity": {ada, by(&of, certificate.Summary{}), false},
		"key of an identity":  {ada, by(&of, adas), false},
		"key":                 {key, by(&of, certificate.Summary{}), true},
		"identity for a key":  {key, by(nil, adas), false},
		"key without a log":   {key, by(&ofLoose, certificate.Summary{}), false},
		"no log needed":       {loose, by(&ofLoose, certificate.Summary{}), true},
		"logged, none needed": {loose, by(&of, certificate.Summary{}), false}, // it is judged as the loose one, too
		"no signer is nobody": {nil, by(nil, adas), false},
		"no signer is no key": {nil, by(&of, certificate.Summary{}), false},
		"key that is no key":  {key, by(&bundle.Signer{Key: "x"}, certificate.Summary{}), false},
	} {
		if err := signed(test.demanded)(test.p); (err == nil) != test.ok {
			t.Errorf("%s: got %v, want it accepted: %v", name, err, test.ok)
		}
	}
	if !withoutLog(loose) || withoutLog(key) || withoutLog(ada) || withoutLog(nil) {
		t.Error("only a key that says so needs no log entry")
	}
	root := &trust.Root{}
	if got := rootsOf(nil, ofLoose); len(got) != 1 || got[0] != nil {
		t.Errorf("no roots, no log needed: got %v", got)
	}
	if got := rootsOf(nil, of); len(got) != 0 {
		t.Errorf("no roots: got %v", got)
	}
	if got := rootsOf([]*trust.Root{root}, ofLoose); len(got) != 1 || got[0] != root {
		t.Errorf("a root: got %v", got)
	}
}

// TestClaimsForPeople: what a verdict shows of a build is what the provenance says.
func TestClaimsForPeople(t *testing.T) {
	commit := strings.Repeat("c", 40)
	for want, b := range map[string]*build{
		"built from git.example.com/a@ccccccc, refs/tags/v1; no Build level":                   {Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: commit, Ref: "refs/tags/v1"}},
		"built from git.example.com/a@ccccccc, no ref; no Build level":                         {Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: "ccccccc"}},
		"built from git.example.com/a@c, no ref, contained in refs/heads/main; no Build level": {Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: "c", Within: "refs/heads/main"}},
		"built from git.example.com/a@c, refs/tags/v1; Build L2": {Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: "c", Ref: "refs/tags/v1", Within: "x"},
			evidence: provenance.Evidence{Level: 2, By: "the test", Provenance: "p", Signed: "s"}},
		"built from a@c, no ref; no Build level; the requester chose lock sha256:aa": {Facts: &provenance.Facts{Source: "a", Commit: "c", Recipe: &attest.Recipe{}, Lock: "sha256:aa"}},
		"built from b@c, no ref; no Build level":                                     {Facts: &provenance.Facts{Source: "b", Commit: "c", Recipe: &attest.Recipe{}, Lock: "sha256:aa", Hermetic: true}},
	} {
		if got := b.claim(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	named := &source.Signature{Status: source.Unverified, Object: "tag"}
	for want, s := range map[string]*source.Signature{
		"": nil, "tag signed by key unknown, which the requester did not name": named, "with a BAD signature": {Status: source.Bad}, "unsigned": {Status: source.Unsigned},
		"tag signed by key SHA256:x, which the requester did not name": {Status: source.Unverified, Object: "tag", Key: "SHA256:x"},
	} {
		if got := signatureClaim(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := signatureClaim(&source.Signature{Status: "of tomorrow"}); got != "" {
		t.Errorf("an unknown status: got %q", got)
	}
	for n, want := range map[int]string{0: "", 1: ": a", 3: ": a, a, a", 4: ": a, a, a and 1 more", 9: " and 6 more"} {
		d := &sbom.Document{}
		for range n {
			d.Unread = append(d.Unread, "a")
		}
		if got := unread(d); !strings.HasSuffix(got, want) || (got == "") != (n == 0) || n < 4 && strings.Contains(got, "more") {
			t.Errorf("%d files: got %q, want %q", n, got, want)
		}
	}
	evil := plainEvidence([]provenance.Requirement{{Evidence: "a\nb\x1b[31m"}})
	if strings.ContainsAny(evil[0].Evidence, "\n\x1b") {
		t.Errorf("got %q, want one printable line", evil[0].Evidence)
	}
	if (&build{Facts: &provenance.Facts{Commit: "c"}}).named() != "commit c" || (&build{Facts: &provenance.Facts{Commit: "c", Ref: "r"}}).named() != "r of commit c" {
		t.Error("a commit is named without its ref")
	}
}

// TestSumsAreStrict: a list of digests that two tools could read differently is none.
func TestSumsAreStrict(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	good := v1.Hash{Algorithm: "sha256", Hex: hex}
	for raw, name := range map[string]string{
		hex + "  a": "a", hex + " *a\r\n": "a", hex + "  ./a\n\n": "a", "SHA256 (a) = " + hex: "a", hex + "  d/a b": "d/a b", "SHA256 (a) = b) = " + hex: "",
	} {
		sums, err := parseSums([]byte(raw))
		if (err == nil) != (name != "") || err == nil && (len(sums) != 1 || sums[name] != good) {
			t.Errorf("%q: got %v, %v, want %q", raw, sums, err, name)
		}
	}
	for raw, want := range map[string]string{
		"": "got no line", "\n\r\n": "got no line", hex: "want a SHA-256 digest", hex + " a": "want a SHA-256 digest", hex + " ": "want a SHA-256 digest", hex + "  ": "path within", hex + "  .": "path within", hex + "  ../a": "path within", hex + "  /a": "path within",
		hex + "  a\n" + hex + "  a": "line 2: got \"a\" twice", hex + "  a\n" + hex + "  ./a": "twice", strings.ToUpper(hex) + "  a": "want a SHA-256 digest", hex[2:] + "  a": "want a SHA-256 digest", "z" + hex[1:] + "  a": "want a SHA-256 digest",
		"SHA256 (a) " + hex: "want a SHA-256 digest", "MD5 (a) = " + hex: "want a SHA-256 digest", hex + "  " + strings.Repeat("a", 1<<17): "token too long",
	} {
		if sums, err := parseSums([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, %v, want %q", raw, sums, err, want)
		}
	}
	lines := func(n int) (out []byte) {
		for i := range n {
			out = fmt.Appendf(out, "%s  %d\n", hex, i)
		}
		return out
	}
	if sums, err := parseSums(lines(maxSums)); err != nil || len(sums) != maxSums {
		t.Errorf("the longest list: got %d, %v", len(sums), err)
	}
	if _, err := parseSums(lines(maxSums + 1)); err == nil {
		t.Error("a longer list was read")
	}
}

// TestOnlyBundlesNeedNoProof: a file counts as a bundle only if all of it is.
func TestOnlyBundlesNeedNoProof(t *testing.T) {
	good := []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[]}`)
	if AreBundles(nil) || AreBundles([][]byte{[]byte("{}")}) || AreBundles([][]byte{[]byte("{}"), good}) || AreBundles([][]byte{good, []byte("{}")}) {
		t.Error("a file that is no bundle needs no proof")
	}
}

// TestTrustedPlatforms: only a builder that the root names, or the policy where it names
// some, and only with the issuer of that root.
func TestTrustedPlatforms(t *testing.T) {
	const x, y, issuer = "https://p.example.com/builders/x", "https://p.example.com/builders/y", "https://p.example.com"
	root := func(issuer string, ids ...string) *trust.Root {
		r := &trust.Root{Issuer: issuer}
		for _, id := range ids {
			r.Builders = append(r.Builders, trust.Builder{ID: id, Level: 3})
		}
		return r
	}
	for name, test := range map[string]struct {
		root         *trust.Root
		wanted       []string
		signer, from string
		want         string // words of the error
	}{
		"named":             {root(issuer, x), nil, x, issuer, ""},
		"another":           {root(issuer, x), nil, y, issuer, `got "` + y + `", want one of ["` + x + `"]`},
		"wanted":            {root(issuer, x, y), []string{y}, y, issuer, ""},
		"not wanted":        {root(issuer, x, y), []string{y}, x, issuer, `want one of ["` + y + `"]`},
		"none named":        {root(issuer), nil, x, issuer, "the trust root names no builders"},
		"by another issuer": {root(issuer, x), nil, x, "https://evil.example.com", "issuer of the signer's certificate"},
		"by no issuer":      {root(issuer, x), nil, x, "", "issuer of the signer's certificate"},
	} {
		c := &check{opts: Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Builders: test.wanted}}}}}
		p := &proof{root: test.root, Result: &bundle.Result{Identity: certificate.Summary{SubjectAlternativeName: test.signer, Extensions: certificate.Extensions{Issuer: test.from}}}}
		if err := c.trustPlatform(p); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestLogLinks: what the log proves of a signature, and when nothing is asked of it.
func TestLogLinks(t *testing.T) {
	loose := policy.Policy{Origin: policy.SignatureOnly{Signer: policy.Key{InsecureNoLog: true}}}
	for name, test := range map[string]struct {
		p      proof
		policy policy.Policy
		status Status
		words  string
	}{
		"wrong":            {proof{Result: &bundle.Result{Log: errWrong, Index: 3}}, policy.Policy{}, Broken, "it is wrong"},
		"platform":         {proof{rules: ofPlatform, Result: &bundle.Result{Index: 3, TreeSize: 9}}, policy.Policy{}, Holds, "entry 3, checkpoint 9, timestamp within the certificate"},
		"platform's fault": {proof{rules: ofPlatform, Result: &bundle.Result{Index: 3, TreeSize: 9, Signature: errWrong}}, policy.Policy{}, Holds, "entry 3, checkpoint 9"},
		"entry and time":   {proof{rules: ofNamed, Result: &bundle.Result{Index: 0, Times: []time.Time{noon}}}, policy.Policy{}, Holds, "entry 0, signed 2026-11-20 12:00:00Z"},
		"no log":           {proof{rules: ofNamed, Result: &bundle.Result{Index: -1}}, policy.Policy{}, Holds, "the trust root has no transparency log"},
		"none needed":      {proof{rules: ofNamed, Result: &bundle.Result{Index: -1}}, loose, NotAsked, "dangerous"},
		"of a builder":     {proof{rules: ofPublic, Result: &bundle.Result{Index: -1}}, loose, Holds, "the trust root has no transparency log"},
	} {
		l := (&check{opts: Options{Policy: test.policy}}).logLink(&test.p)
		if said := l.Claim + l.Reason; l.Status != test.status || !strings.HasPrefix(said, test.words) || test.status == Holds && said != test.words {
			t.Errorf("%s: got %+v, want %s, %q", name, l, test.status, test.words)
		}
	}
}

// TestLacks: what a set of proofs lacks of what the policy demands.
func TestLacks(t *testing.T) {
	good, bad := ref{&item{}, signedProof(5, nil, nil, nil), nil}, ref{}
	for name, test := range map[string]struct {
		s    set
		sbom policy.SBOM
		want int
	}{
		"whole":            {set{ofPlatform, good, good, good, good}, policy.SBOMRequired, 0},
		"no documents":     {set{ofPlatform, good, good, bad, bad}, policy.SBOMRequired, 2},
		"none demanded":    {set{ofPlatform, good, good, bad, bad}, policy.SBOMOptional, 0},
		"no signature":     {set{ofPlatform, good, bad, good, good}, policy.SBOMRequired, 1},
		"public":           {set{ofPublic, good, bad, bad, bad}, policy.SBOMRequired, 0},
		"public, contents": {set{ofPublic, good, bad, bad, bad}, policy.SBOMContents, 2},
		"nothing":          {set{ofPlatform, bad, bad, bad, bad}, policy.SBOMContents, 4},
	} {
		c := &check{opts: Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{SBOM: test.sbom}}}}
		if got := c.lacks(test.s); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

// TestBestBySigner: of an item's proofs, the one that holds is the best. If none holds,
// the one that passed most checks tells why.
func TestBestBySigner(t *testing.T) {
	holds, further, less := signedProof(1, nil, nil, nil), signedProof(5, errWrong, nil, nil), signedProof(4, errWrong, nil, nil)
	for name, tt := range map[string]struct {
		anyone []*proof
		want   *proof
	}{
		"the further one first": {[]*proof{further, less}, further}, "the further one last": {[]*proof{less, further}, further},
		"one that holds": {[]*proof{further, holds, less}, holds}, "two that hold": {[]*proof{holds, signedProof(1, nil, nil, nil)}, holds},
	} {
		ev := &evidence{items: []*item{{kind: attest.PredicateVSA, anyone: tt.anyone}}}
		found := ev.signedBy(ofKind(attest.PredicateVSA), func(*proof) error { return nil }, nil)
		if len(found) != 1 || found[0].proof != tt.want || (found[0].err == nil) != (tt.want == holds) {
			t.Errorf("%s: got %+v", name, found)
		}
	}
}

// TestImageByName: the verdict names the image as its user would.
func TestImageByName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for reference, want := range map[string]string{"v1": "registry.example.com/app:v1", digest: "registry.example.com/app@" + digest} {
		if v := Image(t.Context(), newShelf(t), reference, time.Time{}, Options{}); v.Image != want || v.Outcome != Undecided {
			t.Errorf("got %s, %s, want %s", v.Image, v.Outcome, want)
		}
	}
}
