package search

import (
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers, as the content of their DER encoding: they may have numbers of any size.
// Fulcio's arc: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
const (
	fulcio       = "\x2b\x06\x01\x04\x01\x83\xbf\x30\x01" // 1.3.6.1.4.1.57264.1
	oidAltNames  = "\x55\x1d\x11"                         // 2.5.29.17
	oidOtherName = fulcio + "\x07"
)

// field is an extension of Fulcio. Those of the first version have the text itself as their
// value, the others its DER encoding, a UTF8String. That with the repository of the first
// version has the kind Source and a path without a server.
type field struct {
	kind Kind
	bare bool
}

// fields are those below fulcio, by their last number.
var fields = map[string]field{
	"\x01": {Issuer, true}, "\x03": {Commit, true}, "\x05": {Source, true}, "\x06": {Ref, true},
	"\x08": {Issuer, false}, "\x0c": {Source, false}, "\x0d": {Commit, false}, "\x0e": {Ref, false},
}

// github is the server of a repository of the first version, beside those of the names.
const github = "https://github.com/"

// certificate adds the keys of an X.509 certificate (RFC 5280, 4.1). It reads the extensions
// and skips over the rest.
func (c *collector) certificate(der []byte) {
	c.certificates = append(c.certificates, der)
	input := cryptobyte.String(der)
	var cert, tbs, extensions, list cryptobyte.String
	var has bool
	ok := input.ReadASN1(&cert, tag.SEQUENCE) && input.Empty() &&
		cert.ReadASN1(&tbs, tag.SEQUENCE) &&
		tbs.SkipOptionalASN1(tag.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(tag.INTEGER) && // serial number
		tbs.SkipASN1(tag.SEQUENCE) && // signature algorithm
		tbs.SkipASN1(tag.SEQUENCE) && // issuer
		tbs.SkipASN1(tag.SEQUENCE) && // validity
		tbs.SkipASN1(tag.SEQUENCE) && // subject
		tbs.SkipASN1(tag.SEQUENCE) && // public key
		tbs.SkipOptionalASN1(tag.Tag(1).ContextSpecific()) && // unique IDs
		tbs.SkipOptionalASN1(tag.Tag(2).ContextSpecific()) &&
		tbs.ReadOptionalASN1(&extensions, &has, tag.Tag(3).Constructed().ContextSpecific()) && tbs.Empty()
	if !ok || has && !(extensions.ReadASN1(&list, tag.SEQUENCE) && extensions.Empty()) {
		c.unparsed()
		return
	}
	before := len(c.keys)
	r := &repositories{servers: []string{github}}
	for !list.Empty() {
		var extension, id, value cryptobyte.String
		var kind tag.Tag
		if !list.ReadAnyASN1(&extension, &kind) {
			c.unparsed()
			break
		}
		if kind != tag.SEQUENCE || !extension.ReadASN1(&id, tag.OBJECT_IDENTIFIER) ||
			!extension.SkipOptionalASN1(tag.BOOLEAN) || !extension.ReadASN1(&value, tag.OCTET_STRING) || !extension.Empty() {
			c.unparsed()
			continue
		}
		c.extension(r, string(id), value)
	}
	for _, path := range r.paths {
		for _, server := range r.servers {
			c.uri(Source, server+path)
		}
	}
	if len(c.keys) == before { // a certificate of nobody
		c.unparsed()
	}
}

// repositories are those in the extension of the first version. Verifiers take the server from
// the name of the workflow.
type repositories struct {
	paths   []string
	servers []string // such as "https://github.com/"
}

func (c *collector) extension(r *repositories, id string, value cryptobyte.String) {
	if id == oidAltNames {
		c.names(r, value)
		return
	}
	last, ok := strings.CutPrefix(id, fulcio)
	if !ok {
		return
	}
	switch f, known := fields[last]; {
	case !known:
	case f.bare && len(value) == 0:
		c.unparsed()
	case f.bare && f.kind == Source:
		r.paths = append(r.paths, string(value))
	case f.bare:
		c.add(f.kind, string(value))
	default:
		var text cryptobyte.String
		if !value.ReadASN1(&text, tag.UTF8String) || !value.Empty() {
			c.unparsed()
			return
		}
		if f.kind == Source {
			c.uri(Source, string(text))
		} else {
			c.add(f.kind, string(text))
		}
	}
}

// names adds the subject alternative names (RFC 5280, 4.2.1.6): mail addresses, DNS names,
// URIs, and the user names of Fulcio. Names of other kinds have the key Unparsed.
func (c *collector) names(r *repositories, value cryptobyte.String) {
	var list cryptobyte.String
	if !value.ReadASN1(&list, tag.SEQUENCE) || !value.Empty() {
		c.unparsed()
		return
	}
	for !list.Empty() {
		var name cryptobyte.String
		var kind tag.Tag
		if !list.ReadAnyASN1(&name, &kind) {
			c.unparsed()
			return
		}
		switch kind {
		case tag.Tag(1).ContextSpecific(), tag.Tag(2).ContextSpecific():
			c.add(Identity, string(name))
		case tag.Tag(6).ContextSpecific():
			c.uri(Identity, string(name))
			r.server(string(name))
		case tag.Tag(0).Constructed().ContextSpecific():
			var id, explicit, text cryptobyte.String
			if !name.ReadASN1(&id, tag.OBJECT_IDENTIFIER) || string(id) != oidOtherName ||
				!name.ReadASN1(&explicit, tag.Tag(0).Constructed().ContextSpecific()) || !name.Empty() ||
				!explicit.ReadASN1(&text, tag.UTF8String) || !explicit.Empty() {
				c.unparsed()
				continue
			}
			c.add(Identity, string(text))
		default:
			c.unparsed()
		}
	}
}

// server adds the server of a name such as https://github.com/team/app.
func (r *repositories) server(name string) {
	normal, plain := normalURI(name)
	rest, https := strings.CutPrefix(normal, "https://")
	host, _, hasPath := strings.Cut(rest, "/")
	if plain && https && hasPath && !strings.ContainsAny(host, "?#") {
		r.servers = append(r.servers, "https://"+host+"/")
	}
}
