package distrust

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/pypi"
)

// Facts are what is proven about an image or a file, as far as entries can be about it.
type Facts struct {
	Digests []string // sha256:HEX of the index, and of the manifests in it; or of the file
	Source  string   // canonical address of the repository; empty if nothing proves it
	Commit  string
	Builder string
	Signers []Signer // who signed what the verdict rests on: their times are those of the build
	Beside  []Signer // who signed attestations and summaries that the policy demands
	Inputs  []Input  // what the build used, as its provenance lists it

	// Packages returns what the SBOMs list. An error means that it is not known. nil: there is no SBOM.
	Packages func() ([]Listed, error)
}

// Signer is who signed one of the proofs.
type Signer struct {
	Identity, Issuer string    // of the certificate; empty if a key signed
	Key              string    // sha256:HEX of the key (SubjectPublicKeyInfo, DER); empty if a certificate signed
	Before           time.Time // the signature was made before: the first time that a log or timestamp authority proves; zero if none does
	After            time.Time // the signature was made after: start of the certificate's validity; zero for a key
}

// Input is one thing that a build used.
type Input struct {
	URI    string // as in the provenance
	Digest string // sha256:HEX, or empty
}

// Listed is a package in an SBOM.
type Listed struct{ Name, Version, PURL string }

// fact is what entries are found by. Values are compared whole.
type fact struct {
	kind        Kind
	value, more string // more: source of a commit, issuer of an identity, version of a base or package
}

// fact returns what a scope, which passed its check, is found by.
func (s *Scope) fact() fact {
	switch k, v := s.Of(); k {
	case Commit:
		return fact{k, v, s.Source}
	case Identity:
		return fact{k, v, s.Issuer}
	case Base:
		repository, version, _ := parseBase(v)
		return fact{k, repository, version}
	case Package:
		name, version, _ := parsePackage(v)
		return fact{k, plainName(name), plainPURL(version)}
	default:
		return fact{k, v, ""}
	}
}

// plainPURL returns a part of a package URL without the escapes that its writers choose differently.
func plainPURL(part string) string {
	if plain, err := url.PathUnescape(part); err == nil {
		return plain
	}
	return part
}

// plainName returns the name in a package URL as its type compares it (purl-spec, "Known types").
// Scanners write it as the package does, advisories often in the form of the specification.
func plainName(name string) string {
	name = plainPURL(name)
	switch kind, rest, _ := strings.Cut(name, "/"); kind {
	case "pkg:pypi":
		return kind + "/" + pypi.Name(rest)
	case "pkg:bitbucket", "pkg:github", "pkg:golang":
		return strings.ToLower(name)
	}
	return name
}

func (l *List) makeIndex() {
	for _, e := range l.entries {
		if _, lifted := l.lifted[e.Number]; e.Scope == nil || lifted {
			continue
		}
		f := e.Scope.fact()
		l.index[f] = append(l.index[f], e.Number)
		l.kinds[f.kind] = true
	}
}

// facts returns what entries may be found by, but for packages.
func (f *Facts) facts() (all []fact) {
	for _, d := range f.Digests {
		all = append(all, fact{Digest, d, ""})
	}
	if f.Commit != "" {
		all = append(all, fact{Commit, f.Commit, ""}, fact{Commit, f.Commit, f.Source})
	}
	if f.Source != "" {
		all = append(all, fact{Source, f.Source, ""})
	}
	if f.Builder != "" {
		all = append(all, fact{Builder, f.Builder, ""})
		if workflow, _, versioned := strings.Cut(f.Builder, "@"); versioned {
			all = append(all, fact{Builder, workflow, ""})
		}
	}
	for _, s := range slices.Concat(f.Signers, f.Beside) {
		if s.Identity != "" {
			all = append(all, fact{Identity, s.Identity, s.Issuer})
		}
		if s.Key != "" {
			all = append(all, fact{Key, s.Key, ""})
		}
	}
	for _, in := range f.Inputs {
		all = append(all, in.facts()...)
	}
	return all
}

func (in Input) facts() (all []fact) {
	if in.URI != "" {
		all = append(all, fact{Fetched, in.URI, ""})
	}
	if in.Digest != "" {
		all = append(all, fact{Fetched, in.Digest, ""})
	}
	if in.Digest != "" { // whatever the provenance calls it
		all = append(all, fact{Base, "", "@" + in.Digest})
	}
	name, versions := in.image()
	repository, _, err := parseBase(name)
	if err != nil {
		return all
	}
	all = append(all, fact{Base, repository, ""})
	for _, v := range versions {
		all = append(all, fact{Base, repository, v})
		if v[0] == '@' {
			all = append(all, fact{Base, "", v})
		}
	}
	return all
}

// image returns the name of an image, and ":TAG" and "@sha256:HEX" as far as they are known; or nothing. Names of
// images are, in provenance:
//
//	pkg:docker/NAME[@VERSION][?digest=…]	BuildKit. Version: a tag or a digest
//	pkg:oci/LAST[@DIGEST][?repository_url=NAME&tag=…]
//	docker://REFERENCE, oci://REFERENCE, docker-pullable://REFERENCE	Tekton Chains and others
func (in Input) image() (name string, versions []string) {
	scheme, rest, _ := strings.Cut(in.URI, "/")
	var query url.Values
	switch scheme {
	case "pkg:docker", "pkg:oci":
		rest, _, _ = strings.Cut(rest, "#")
		whole, values, _ := strings.Cut(rest, "?")
		query, _ = url.ParseQuery(values) // what can be parsed of it
		whole, version, _ := strings.Cut(plainPURL(whole), "@")
		name, versions = whole, []string{version, query.Get("tag"), query.Get("digest")}
		if at := query.Get("repository_url"); at != "" && scheme == "pkg:oci" {
			name = at
		} else if at != "" {
			name = strings.TrimSuffix(at, "/") + "/" + name
		}
	case "docker:", "oci:", "docker-pullable:":
		var digest string
		name, digest, _ = strings.Cut(strings.TrimPrefix(rest, "/"), "@")
		versions = []string{digest}
		if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
			versions = append(versions, name[colon+1:])
			name = name[:colon]
		}
	default:
		return "", nil
	}
	versions = append(versions, in.Digest)
	for i, v := range versions {
		switch {
		case digestForm.MatchString(v):
			versions[i] = "@" + v
		case v != "":
			versions[i] = ":" + v
		}
	}
	return name, slices.DeleteFunc(versions, func(v string) bool { return v == "" })
}

// facts returns what entries about a package may be found by.
func (p Listed) facts() []fact {
	all := []fact{{Package, p.Name, p.Version}, {Package, p.Name, ""}}
	if p.PURL == "" {
		return all
	}
	plain, _, _ := strings.Cut(p.PURL, "#")
	name, version, err := parsePackage(plain)
	if err != nil {
		return all
	}
	name = plainName(name)
	if version == "" { // the SBOM has it beside the package URL
		version = p.Version
	}
	all = append(all, fact{Package, name, plainPURL(version)}, fact{Package, name, ""})
	switch kind, rest, _ := strings.Cut(name, "/"); kind {
	case "pkg:pypi":
		all = append(all, fact{Package, rest, p.Version}, fact{Package, rest, ""})
	case "pkg:maven": // in CycloneDX, p.Name begins with the group
		rest = path.Base(rest)
		all = append(all, fact{Package, rest, p.Version}, fact{Package, rest, ""})
	}
	return all
}

// applies reports whether the signatures may have been made in the time of the scope.
func (s *Scope) applies(f *Facts) bool {
	k, v := s.Of()
	signers := f.Signers
	if k == Identity || k == Key {
		signers = slices.Concat(f.Signers, f.Beside)
	}
	if s.From == nil && s.Until == nil || len(signers) == 0 {
		return true
	}
	return slices.ContainsFunc(signers, func(by Signer) bool {
		switch {
		case k == Identity && (by.Identity != v || by.Issuer != s.Issuer), k == Key && by.Key != v:
			return false
		case s.From != nil && !by.Before.IsZero() && by.Before.Before(*s.From):
			return false
		case s.Until != nil && !by.After.IsZero() && !by.After.Before(*s.Until):
			return false
		}
		return true
	})
}

// Found is an entry that is about an image.
type Found struct {
	Issuer string // name of the list's issuer on this machine
	*Entry
}

// String returns why the image is not trusted, for people.
func (f *Found) String() string {
	out := fmt.Sprintf("%s is no longer trusted: %s (entry %d of %s)", f.Scope, f.Reason, f.Number, f.Issuer)
	if f.Replace != "" {
		out += "; use " + f.Replace
	}
	return out
}

// Known is an issuer, and what is known of its list.
type Known struct {
	Issuer  Issuer
	List    *List  // nil: it was never read. Its signature was verified
	Problem string // why it could not be read just now; empty: it was
}

// Lists are the lists of all issuers that count somewhere.
type Lists []Known

// ErrUnknown is in the chain of an error of Find that means that an entry may be about the image.
var ErrUnknown = errors.New("it is not known whether the image is trusted no longer")

// Find returns the first entry about the image, in the order of the issuers and of their entries, or
// nil. Lists that expired count, too: nothing becomes trusted again because its issuer is silent. An
// error means that it is not known whether there is one.
func (ls Lists) Find(f *Facts) (*Found, error) {
	candidates := f.facts()
	for _, k := range ls {
		if k.List == nil || !k.Issuer.about(f) {
			continue
		}
		all := candidates
		if k.has(Package) && f.Packages != nil {
			packages, err := f.Packages()
			if err != nil {
				return nil, fmt.Errorf("%w: an entry of %s is about a package, and %w", ErrUnknown, k.Issuer.Name, err)
			}
			all = slices.Clone(candidates)
			for _, p := range packages {
				all = append(all, p.facts()...)
			}
		}
		if n := k.find(all, f); n >= 0 {
			return &Found{k.Issuer.Name, k.List.entries[n]}, nil
		}
	}
	return nil, nil
}

// find returns the lowest number of an entry that one of the facts leads to and that counts, or -1.
func (k *Known) find(all []fact, f *Facts) int {
	lowest := -1
	for _, one := range all {
		for _, n := range k.List.index[one] {
			if e := k.List.entries[n]; (lowest < 0 || n < lowest) && k.Issuer.May(e.Scope) == nil && e.Scope.applies(f) {
				lowest = n
			}
		}
	}
	return lowest
}

// has reports whether the list has entries of a kind that its issuer may issue.
func (k *Known) has(kind Kind) bool {
	return k.List.kinds[kind] && (len(k.Issuer.Only) == 0 || slices.Contains(k.Issuer.Only, kind))
}

// Beyond reports whether a list has an entry that counts and is of another kind than these.
func (ls Lists) Beyond(kinds ...Kind) bool {
	return slices.ContainsFunc(ls, func(k Known) bool {
		return k.List != nil && slices.ContainsFunc(Kinds(), func(kind Kind) bool { return k.has(kind) && !slices.Contains(kinds, kind) })
	})
}

// Fresh returns an error unless every issuer's list was read, counts at the time now and was issued
// at most maxAge ago; or if there are no issuers.
func (ls Lists) Fresh(maxAge time.Duration, now time.Time) error {
	if len(ls) == 0 {
		return errors.New("no issuer of a list of what is no longer trusted is named here: see `colophon distrust issuer add`")
	}
	for _, k := range ls {
		if err := k.fresh(maxAge, now); err != nil {
			if k.Problem != "" {
				err = fmt.Errorf("%w; it cannot be read now: %s", err, k.Problem)
			}
			return fmt.Errorf("the list of what %s trusts no longer: %w", k.Issuer.Name, err)
		}
	}
	return nil
}

func (k *Known) fresh(maxAge time.Duration, now time.Time) error {
	if k.List == nil {
		return errors.New("it was never read")
	}
	if err := k.List.Counts(now); err != nil {
		return err
	}
	if age := now.Sub(k.List.Issued); age > maxAge {
		return fmt.Errorf("it was issued %s ago, and the policy demands at most %s", age.Round(time.Second), maxAge)
	}
	return nil
}

// ID stands for the entries of all lists and who may issue them. It stays the same when only heads change.
func (ls Lists) ID() string {
	var b strings.Builder
	for _, k := range ls {
		fmt.Fprintf(&b, "%q %q %q %t", k.Issuer.Name, k.Issuer.Only, k.Issuer.Sources, k.Issuer.Wide)
		if k.List != nil {
			fmt.Fprintf(&b, " %d %s", k.List.Entries, k.List.Chain)
		}
		b.WriteByte('\n')
	}
	return sum([]byte(b.String()))
}
