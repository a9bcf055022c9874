// Package sarif writes SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0), the format in which
// code hosts take findings.
package sarif

import (
	"bytes"
	"encoding/json"
	"net/url"
)

// Object is a JSON object.
type Object = map[string]any

// Log returns a log with one run of colophon in the given version. Columns in it count Unicode
// code points (section 3.14.17).
func Log(version string, rules, results []Object) ([]byte, error) {
	if results == nil {
		results = []Object{} // null would mean that the run failed (section 3.14.23)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(Object{
		"$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		"version": "2.1.0",
		"runs": []Object{{
			"tool":       Object{"driver": Object{"name": "colophon", "version": version, "rules": rules}},
			"columnKind": "unicodeCodePoints",
			"results":    results,
		}},
	})
	return out.Bytes(), err
}

// Artifact returns the location of a file: a relative reference with any name escaped (RFC 3986,
// section 4.2).
func Artifact(name string) Object { return Object{"uri": (&url.URL{Path: name}).String()} }
