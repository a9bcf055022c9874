package search

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/pypi"
)

// The kinds of spec/archive/v1 beside Digest, Source, Commit, Ref and Unparsed.
const (
	Content   Kind = "content"   // the content itself: sha256:HEX
	LogEntry  Kind = "entry"     // leaf hash of its log entry, HEX
	Name      Kind = "name"      // name that the content gives to what it is about, such as an image's
	Predicate Kind = "predicate" // predicate type of a statement
	Builder   Kind = "builder"   // builder id of a provenance
	Run       Kind = "run"       // invocation id of a provenance
	Base      Kind = "base"      // image that a build used: sha256:HEX, NAME@sha256:HEX, NAME@TAG
	Fetched   Kind = "fetched"   // what a build used or downloaded: URI, ALGORITHM:HEX
	Tool      Kind = "tool"      // what the builder used: URI, ALGORITHM:HEX
	Package   Kind = "package"   // package of an SBOM: NAME@VERSION, or a package URL without qualifiers
)

// ArchiveKinds returns the kinds of spec/archive/v1.
func ArchiveKinds() []Kind {
	return []Kind{Digest, Name, Predicate, Source, Commit, Ref, Builder, Run, Base, Fetched, Tool, Package, Content, LogEntry, Unparsed}
}

const (
	maxArchiveKeys = 200_000 // keys of one record; one with more has those of its entry and Unparsed alone
	maxExact       = 400     // bytes of a value that are compared as they are; the rest is replaced by a hash
)

// The forms of content that are read. Content of another form has the key Unparsed.
const (
	formBundle            = "bundle"
	formCosignSignature   = "cosign-signature"
	formCosignAttestation = "cosign-attestation"
	formEnvelope          = "dsse"
	formStatement         = "statement"
)

// ArchiveKey returns the key of a kind with a value. A value of more than 400 bytes, or with a
// zero byte, is cut there, and its SHA-256 follows: so it is still found by how it begins.
func ArchiveKey(kind Kind, value string) Key {
	short := value
	if i := strings.IndexByte(short, 0); i >= 0 {
		short = short[:i]
	}
	if short = short[:min(len(short), maxExact)]; short != value {
		short += hashName([]byte(value))
	}
	return Key{kind, short}
}

// ArchiveKeys returns the keys of a record of an archive, sorted, at least one. content are the bytes
// with the digest in the record; they are not looked at if the record adds to an earlier one.
// It reads nothing else, and never fails: what it cannot read has the key Unparsed.
func ArchiveKeys(r Record, content []byte) []Key {
	var c archiveCollector
	if r.Attached != "" {
		c.add(Digest, r.Attached)
	}
	if r.Of == 0 {
		c.add(Content, r.Digest)
		if r.Entry != "" {
			c.add(LogEntry, r.Entry)
		}
		own := slices.Clone(c.keys)
		if c.content(r.Form, content); len(c.keys) > maxArchiveKeys {
			c.keys = own
			c.unparsed()
		}
	}
	if len(c.keys) == 0 {
		c.unparsed()
	}
	slices.SortFunc(c.keys, func(a, b Key) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Value, b.Value))
	})
	return slices.Compact(c.keys)
}

// PackageURLs returns what the SBOMs in content name the packages with a value of the kind Package, as ArchiveKeys has them:
// their package URLs, and value itself if one has no package URL, or if it is a package URL.
func PackageURLs(form string, content []byte, value string) []string {
	c := archiveCollector{asked: value}
	c.content(form, content)
	slices.Sort(c.urls)
	if c.urls = slices.Compact(c.urls); len(c.urls) == 0 || strings.HasPrefix(value, "pkg:") {
		return []string{value}
	}
	return c.urls
}

// archiveCollector gathers the keys of one record.
type archiveCollector struct {
	keys  []Key
	asked string   // value of the packages whose package URLs are gathered, too; empty: none are
	urls  []string // of these packages, and asked if one has none
}

func (c *archiveCollector) add(kind Kind, value string) {
	switch {
	case value == "":
		c.unparsed()
	case len(c.keys) <= maxArchiveKeys: // one more than may be: then they do not count
		c.keys = append(c.keys, ArchiveKey(kind, value))
	}
}

func (c *archiveCollector) unparsed() { c.keys = append(c.keys, Key{Kind: Unparsed}) }

// The content that is read. Members that are not named here are ignored.
type (
	sigstoreBundle struct {
		Envelope *envelope `json:"dsseEnvelope"`
		Message  *struct {
			Digest hash2 `json:"messageDigest"`
		} `json:"messageSignature"`
	}
	envelope struct {
		Payload string `json:"payload"` // base64
		Type    string `json:"payloadType"`
	}
	statement struct {
		Subject       []resource     `json:"subject"`
		PredicateType string         `json:"predicateType"`
		Predicate     jsontext.Value `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name"`
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	simpleSigning struct {
		Critical struct {
			Identity struct {
				Reference string `json:"docker-reference"`
			} `json:"identity"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
)

const inTotoPayload = "application/vnd.in-toto+json"

// read decodes JSON, and reports whether it could.
func (c *archiveCollector) read(data []byte, v any) bool {
	if tooDeep(data) || json.Unmarshal(data, v) != nil {
		c.unparsed()
		return false
	}
	return true
}

func (c *archiveCollector) content(form string, content []byte) {
	switch form {
	case formBundle:
		var b sigstoreBundle
		switch {
		case !c.read(content, &b):
		case (b.Envelope == nil) == (b.Message == nil):
			c.unparsed()
		case b.Envelope != nil:
			c.envelope(*b.Envelope)
		default:
			var d collector
			d.hash2(b.Message.Digest)
			c.add(Digest, d.keys[0].Value) // empty if it was not read
		}
	case formEnvelope, formCosignAttestation:
		var e envelope
		if c.read(content, &e) {
			c.envelope(e)
		}
	case formStatement:
		c.statement(content)
	case formCosignSignature:
		var s simpleSigning
		if c.read(content, &s) {
			c.add(Digest, s.Critical.Image.Digest)
			c.name(s.Critical.Identity.Reference)
		}
	default:
		c.unparsed()
	}
}

func (c *archiveCollector) envelope(e envelope) {
	payload, err := decode(e.Payload)
	if err != nil || e.Type != inTotoPayload {
		c.unparsed()
		return
	}
	c.statement(payload)
}

func (c *archiveCollector) statement(data []byte) {
	var s statement
	if !c.read(data, &s) {
		return
	}
	for _, subject := range s.Subject {
		c.digests(Digest, subject.Digest)
		c.name(cmp.Or(subject.Name, subject.URI))
	}
	c.add(Predicate, s.PredicateType)
	switch t := s.PredicateType; {
	case t == "https://slsa.dev/provenance/v1":
		c.provenance(s.Predicate)
	case t == "https://slsa.dev/provenance/v0.2":
		c.provenance02(s.Predicate)
	case t == "https://spdx.dev/Document" || strings.HasPrefix(t, "https://spdx.dev/Document/"):
		c.spdx(s.Predicate)
	case t == "https://cyclonedx.org/bom" || strings.HasPrefix(t, "https://cyclonedx.org/bom/"):
		c.cyclonedx(s.Predicate)
	}
}

// name adds the name of what the content is about, if it has one; that of an image of Docker Hub in its short form, too.
func (c *archiveCollector) name(name string) {
	if name == "" {
		return
	}
	c.add(Name, name)
	if strings.HasPrefix(name, "docker.io/") || strings.HasPrefix(name, "index.docker.io/") {
		c.add(Name, ImageName(name))
	}
}

// digests adds the digests of a resource.
func (c *archiveCollector) digests(kind Kind, digests map[string]string) {
	for algorithm, sum := range digests {
		c.add(kind, algorithm+":"+sum)
	}
}

func (c *archiveCollector) provenance(data []byte) {
	var p struct {
		Definition struct {
			Dependencies []resource `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Details struct {
			Builder struct {
				ID           string     `json:"id"`
				Dependencies []resource `json:"builderDependencies"`
			} `json:"builder"`
			Metadata struct {
				Invocation string `json:"invocationId"`
			} `json:"metadata"`
		} `json:"runDetails"`
	}
	if !c.read(data, &p) {
		return
	}
	c.add(Builder, p.Details.Builder.ID)
	if run := p.Details.Metadata.Invocation; run != "" {
		c.add(Run, run)
	}
	for _, d := range p.Definition.Dependencies {
		c.dependency(d)
	}
	for _, d := range p.Details.Builder.Dependencies {
		c.resource(Tool, d)
	}
}

func (c *archiveCollector) provenance02(data []byte) {
	var p struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Invocation struct {
			Source resource `json:"configSource"`
		} `json:"invocation"`
		Metadata struct {
			Invocation string `json:"buildInvocationID"`
		} `json:"metadata"`
		Materials []resource `json:"materials"`
	}
	if !c.read(data, &p) {
		return
	}
	c.add(Builder, p.Builder.ID)
	if run := p.Metadata.Invocation; run != "" {
		c.add(Run, run)
	}
	if s := p.Invocation.Source; s.URI != "" || len(s.Digest) > 0 {
		c.dependency(s)
	}
	for _, d := range p.Materials {
		c.dependency(d)
	}
}

// resource adds URI and digests of a resource.
func (c *archiveCollector) resource(kind Kind, r resource) {
	if r.URI != "" {
		c.add(kind, r.URI)
	}
	c.digests(kind, r.Digest)
}

// dependency adds the keys of what a build used.
func (c *archiveCollector) dependency(r resource) {
	c.resource(Fetched, r)
	if repository, ok := strings.CutPrefix(r.URI, "git+"); ok {
		c.repository(repository, r.Digest)
	} else if r.Digest["gitCommit"] != "" {
		c.repository(r.URI, r.Digest)
	}
	c.base(r)
}

// repository adds the keys of a git repository: URL, with or without @REF.
func (c *archiveCollector) repository(uri string, digests map[string]string) {
	// The names of refs can have an @, and so have addresses: git@example.com:team/app.
	address, ref, full := strings.Cut(uri, "@refs/")
	if full {
		ref = "refs/" + ref
	} else if i := strings.LastIndexByte(uri, '@'); i > strings.LastIndexByte(uri, '/') {
		address, ref = uri[:i], uri[i+1:]
	}
	if address != "" {
		c.add(Source, address)
		if name := SourceName(address); name != "" {
			c.add(Source, name)
		}
	}
	if ref != "" {
		c.add(Ref, ref)
	}
	for _, algorithm := range []string{"gitCommit", "sha1"} {
		if sum := digests[algorithm]; sum != "" {
			c.add(Commit, sum)
		}
	}
}

// SourceName returns the name under which the kind Source has the address of a repository also, or
// "": servers and verifiers read these addresses alike.
func SourceName(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	scheme = strings.ToLower(scheme)
	port, ok := map[string]string{"https": ":443", "http": ":80"}[scheme]
	host, path, _ := strings.Cut(rest, "/")
	if !ok || host == "" || strings.Contains(host, "@") {
		return ""
	}
	for trimmed := ""; trimmed != path; {
		trimmed = path
		path = strings.TrimSuffix(strings.TrimRight(path, "/"), ".git")
	}
	return scheme + "://" + strings.TrimSuffix(strings.ToLower(host), port) + "/" + path
}

// base adds the keys of an image that a build used.
func (c *archiveCollector) base(r resource) {
	name, versions, ok := imageOf(r.URI)
	if !ok {
		return
	}
	if name == "" {
		c.unparsed()
		return
	}
	for algorithm, sum := range r.Digest {
		versions = append(versions, algorithm+":"+sum)
	}
	if len(versions) == 0 {
		versions = []string{""}
	}
	for _, version := range versions {
		c.add(Base, ImageName(name)+"@"+version)
		if strings.Contains(version, ":") {
			c.add(Base, version)
		}
	}
}

// imageOf returns the name of an image that a URI names, and its tags and digests. ok is false if
// the URI is not one of an image.
func imageOf(uri string) (name string, versions []string, ok bool) {
	add := func(version string) {
		if version != "" {
			versions = append(versions, version)
		}
	}
	scheme, rest, _ := strings.Cut(uri, "/")
	switch scheme {
	case "pkg:docker", "pkg:oci":
		rest, _, _ = strings.Cut(rest, "#")
		whole, query, _ := strings.Cut(rest, "?")
		name, version := splitVersion(whole)
		name = unescaped(name)
		add(unescaped(version))
		values, _ := url.ParseQuery(query) // what can be parsed of it
		add(values.Get("tag"))
		add(values.Get("digest"))
		if at := strings.TrimSuffix(values.Get("repository_url"), "/"); at != "" && scheme == "pkg:oci" {
			name = at
		} else if at != "" && name != "" {
			name = at + "/" + name
		}
		return name, versions, true
	case "docker:", "oci:", "docker-pullable:":
		name, ok = strings.CutPrefix(rest, "/")
		name, version := splitVersion(name)
		add(version)
		if slash, colon := strings.LastIndexByte(name, '/'), strings.LastIndexByte(name, ':'); colon > slash {
			add(name[colon+1:])
			name = name[:colon]
		}
		return name, versions, ok
	}
	return "", nil, false
}

// ImageName returns the name under which the kinds Base and Name have an image: one of Docker Hub has
// neither the registry's name nor "library/".
func ImageName(name string) string {
	if short, ok := strings.CutPrefix(name, "index.docker.io/"); ok {
		name = short
	} else {
		name = strings.TrimPrefix(name, "docker.io/")
	}
	if short, ok := strings.CutPrefix(name, "library/"); ok && short != "" && !strings.Contains(short, "/") {
		return short
	}
	return name
}

// unescaped decodes percent signs, if all of them can be decoded.
func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// splitVersion splits NAME@VERSION at the last @ that does not begin the name or a part of it.
func splitVersion(s string) (name, version string) {
	if i := strings.LastIndexByte(s, '@'); i > 0 && s[i-1] != '/' && !strings.Contains(s[i:], "/") {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func (c *archiveCollector) spdx(data []byte) {
	var s struct {
		Version  string `json:"spdxVersion"`
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"versionInfo"`
			Refs    []struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
	}
	if !c.read(data, &s) {
		return
	}
	if !strings.HasPrefix(s.Version, "SPDX-2.") {
		c.unparsed()
	}
	for _, p := range s.Packages {
		begin := len(c.keys)
		c.pkg(p.Name, p.Version)
		for _, r := range p.Refs {
			if r.Type == "purl" {
				c.purl(r.Locator)
			}
		}
		c.named(c.keys[begin:])
	}
}

// component is one of CycloneDX.
type component struct {
	Group      string      `json:"group"`
	Name       string      `json:"name"`
	Version    string      `json:"version"`
	PURL       string      `json:"purl"`
	Components []component `json:"components"`
}

func (c *archiveCollector) cyclonedx(data []byte) {
	var d struct {
		Format   string `json:"bomFormat"`
		Metadata struct {
			Component *component `json:"component"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	if !c.read(data, &d) {
		return
	}
	if d.Format != "CycloneDX" {
		c.unparsed()
	}
	if d.Metadata.Component != nil {
		d.Components = append(d.Components, *d.Metadata.Component)
	}
	c.components(d.Components)
}

func (c *archiveCollector) components(list []component) {
	for _, p := range list {
		begin := len(c.keys)
		c.pkg(p.Name, p.Version)
		if p.Group != "" {
			c.pkg(p.Group+"/"+p.Name, p.Version)
		}
		if p.PURL != "" {
			c.purl(p.PURL)
		}
		c.named(c.keys[begin:])
		c.components(p.Components)
	}
}

// pkg adds the key of a package. One without version has nothing after the @.
func (c *archiveCollector) pkg(name, version string) {
	if name == "" {
		c.unparsed()
		return
	}
	c.add(Package, name+"@"+version)
}

// named gathers the package URLs among the keys of one package, if it is one of those that are asked for.
func (c *archiveCollector) named(keys []Key) {
	if c.asked == "" || !slices.Contains(keys, Key{Package, c.asked}) {
		return
	}
	before := len(c.urls)
	for _, k := range keys {
		if strings.HasPrefix(k.Value, "pkg:") {
			c.urls = append(c.urls, k.Value)
		}
	}
	if len(c.urls) == before {
		c.urls = append(c.urls, c.asked)
	}
}

// purl adds the key of a package URL, without qualifiers and subpath.
func (c *archiveCollector) purl(locator string) {
	c.add(Package, PackageURL(locator))
}

// PackageURL returns the value under which the kind Package has a package URL: percent-decoded, with its
// type in lower case, without qualifiers and subpath, and with an @ at its end if it has no version.
func PackageURL(locator string) string {
	if i := strings.IndexAny(locator, "?#"); i >= 0 {
		locator = locator[:i]
	}
	if locator == "" {
		return ""
	}
	name, version := splitVersion(locator)
	name = unescaped(name)
	if rest, ok := strings.CutPrefix(name, "pkg:"); ok {
		kind, path, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if kind = strings.ToLower(kind); kind == "pypi" {
			path = pypi.Name(path)
		}
		name = "pkg:" + kind + "/" + path
	}
	return name + "@" + unescaped(version)
}
