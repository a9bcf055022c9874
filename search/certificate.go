package search

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Fulcio's arc of object identifiers: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
var (
	fulcio       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidAltNames  = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidOtherName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
)

// field is an extension of Fulcio. Those of the first version have the text itself as their
// value, the others its DER encoding, a UTF8String.
type field struct {
	kind Kind
	bare bool
}

var fields = map[int]field{
	1: {Issuer, true}, 3: {Commit, true}, 6: {Ref, true},
	8: {Issuer, false}, 12: {Source, false}, 13: {Commit, false}, 14: {Ref, false},
}

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
	for !list.Empty() {
		var extension, value cryptobyte.String
		var id asn1.ObjectIdentifier
		if !list.ReadASN1(&extension, tag.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) ||
			!extension.SkipOptionalASN1(tag.BOOLEAN) || !extension.ReadASN1(&value, tag.OCTET_STRING) || !extension.Empty() {
			c.unparsed()
			return
		}
		c.extension(id, value)
	}
	if len(c.keys) == before { // a certificate of nobody
		c.unparsed()
	}
}

func (c *collector) extension(id asn1.ObjectIdentifier, value cryptobyte.String) {
	if id.Equal(oidAltNames) {
		c.names(value)
		return
	}
	if len(id) != len(fulcio)+1 || !id[:len(fulcio)].Equal(fulcio) {
		return
	}
	switch f, known := fields[id[len(fulcio)]]; {
	case !known:
	case f.bare:
		c.add(f.kind, string(value))
	default:
		var text cryptobyte.String
		if !value.ReadASN1(&text, tag.UTF8String) || !value.Empty() {
			c.unparsed()
			return
		}
		c.add(f.kind, string(text))
	}
}

// names adds the subject alternative names (RFC 5280, 4.2.1.6): mail addresses, DNS names,
// URIs, and the user names of Fulcio. Names of other kinds have the key Unparsed.
func (c *collector) names(value cryptobyte.String) {
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
		case tag.Tag(1).ContextSpecific(), tag.Tag(2).ContextSpecific(), tag.Tag(6).ContextSpecific():
			c.add(Identity, string(name))
		case tag.Tag(0).Constructed().ContextSpecific():
			var id asn1.ObjectIdentifier
			var explicit, text cryptobyte.String
			if !name.ReadASN1ObjectIdentifier(&id) || !id.Equal(oidOtherName) ||
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
