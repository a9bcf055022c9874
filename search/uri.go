package search

import "strings"

// uri adds a URI as it stands, and as verifiers read it. One of which verifiers may read anything
// else has the key Unparsed too.
func (c *collector) uri(kind Kind, value string) {
	c.add(kind, value)
	if normal, plain := normalURI(value); plain {
		c.add(kind, normal)
	} else {
		c.unparsed()
	}
}

// A plain URI (RFC 3986) is one that parsers do not change, but for the case of its scheme:
//
//	uri       = scheme ":" [ "//" authority ] *char [ "#" 1*char ]
//	scheme    = letter *( letter / digit / "+" / "-" / "." )
//	authority = 1*( letter / digit / "-" / "." / "_" / "~" / ":" )   ends before "/", "?", "#" or the end
//	char      = letter / digit / one of -._~:/?@!$&'()*+,;=[] / "%" HEX HEX

// normalURI returns a plain URI with its scheme in lower case. plain is false if it is not one.
func normalURI(uri string) (normal string, plain bool) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme == "" || !all(scheme, "+-.") || !isLetter(scheme[0]) {
		return "", false
	}
	before, fragment, hasFragment := strings.Cut(rest, "#")
	if hasFragment && fragment == "" || !isPath(before) || !isPath(fragment) {
		return "", false
	}
	if authority, ok := strings.CutPrefix(before, "//"); ok {
		if end := strings.IndexAny(authority, "/?"); end >= 0 {
			authority = authority[:end]
		}
		if authority == "" || !all(authority, "-._~:") {
			return "", false
		}
	}
	return strings.ToLower(scheme) + ":" + rest, true
}

// isPath reports whether s has only characters of a plain URI, without "#".
func isPath(s string) bool {
	parts := strings.Split(s, "%")
	for i, part := range parts {
		if i > 0 && (len(part) < 2 || !isHex(part[0]) || !isHex(part[1])) || !all(part, "-._~:/?@!$&'()*+,;=[]") {
			return false
		}
	}
	return true
}

// all reports whether s has only letters and digits of ASCII, and others.
func all(s, others string) bool {
	for i := range len(s) {
		if b := s[i]; !isLetter(b) && (b < '0' || b > '9') && strings.IndexByte(others, b) < 0 {
			return false
		}
	}
	return true
}

func isLetter(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}
