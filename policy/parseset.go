package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/strict/documents"
)

// maxSets limits the documents of one policy file.
const maxSets = 64

// ParseSets parses a policy file of at most 1 MiB: documents of version 2 as YAML, separated
// by "---", or one as JSON; or a policy of version 1, one JSON object, which becomes the Set
// that Every returns. It never returns a part of a file. An error about a place in the file is
// a *strict.Fault.
func ParseSets(data []byte) ([]*Set, error) {
	return ParseSetsBeside(data, func(string) bool { return false })
}

// ParseSetsBeside is ParseSets for a file that may have documents of other groups, which somebody
// else reads: those with an apiVersion for which other is true. It may return no set.
func ParseSetsBeside(data []byte, other func(apiVersion string) bool) ([]*Set, error) {
	docs, err := documentsBut(data, other)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if len(docs) == 1 && isVersion1(docs[0].JSON) {
		if !docs[0].IsJSON() {
			return nil, fmt.Errorf("policy: %w", docs[0].Fault("", fmt.Sprintf("want apiVersion: %s and kind: %s; a policy of version 1 is JSON", APIVersion, KindPolicy)))
		}
		p, err := Parse(data)
		if err != nil {
			return nil, err
		}
		return []*Set{Every(p)}, nil
	}
	var sets []*Set
	seen := map[[2]string]bool{}
	for _, doc := range docs {
		s, err := parseSet(doc)
		if err == nil && seen[[2]string{s.Namespace, s.Name}] {
			err = doc.Fault("/metadata/name", fmt.Sprintf("got two policies with the name %q", s.Name))
		}
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		seen[[2]string{s.Namespace, s.Name}] = true
		sets = append(sets, s)
	}
	return sets, nil
}

// documentsBut reads the documents of a file that are not other's.
func documentsBut(data []byte, other func(apiVersion string) bool) ([]*documents.Document, error) {
	docs, err := documents.Objects(data, limits.Request, maxSets)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(docs, func(d *documents.Document) bool {
		apiVersion, _, err := d.Head()
		return err == nil && other(apiVersion)
	}), nil
}

// IsVersion1 reports whether a policy file is one of version 1, as ParseSets does. Of a file that
// is neither, it says whose errors to show.
func IsVersion1(data []byte) bool {
	docs, err := documents.Objects(data, limits.Request, maxSets)
	if err != nil {
		return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) && !bytes.Contains(data, []byte(`"apiVersion"`))
	}
	return len(docs) == 1 && docs[0].IsJSON() && isVersion1(docs[0].JSON)
}

func parseSet(doc *documents.Document) (*Set, error) {
	if pointer, ok := doc.Nulls(writtenByKubernetes); ok {
		return nil, doc.Fault(pointer, "got null, want a value: leave the member out")
	}
	var d SetDocument
	if err := doc.Unmarshal(&d); err != nil {
		return nil, err
	}
	s, err := d.Set()
	if err != nil {
		return nil, placeIn(doc, err)
	}
	return s, nil
}

// placeIn returns the error with its place in the file. One in an expression is at the place in
// the expression, if the file has its text as it is.
func placeIn(doc *documents.Document, err error) error {
	pointer := where(err)
	inside, isExpression := errors.AsType[*expressionError](err)
	fault, hasPlace := errors.AsType[*strict.Fault](err)
	if !isExpression || !hasPlace {
		return doc.Fault(pointer, strings.TrimPrefix(err.Error(), "policy: "))
	}
	line, _ := doc.Position(pointer)
	lines := strings.Split(inside.text, "\n")
	if at, column, ok := doc.Text(line, strings.TrimSpace(lines[min(fault.Line, len(lines))-1])); ok {
		text := lines[fault.Line-1]
		indent := len(text) - len(strings.TrimLeft(text, " \t"))
		return &strict.Fault{Line: at, Column: column + max(fault.Column-1-indent, 0), What: fault.What}
	}
	return doc.Fault(pointer, fmt.Sprintf("%s (line %d, column %d of the expression)", fault.What, fault.Line, fault.Column))
}

// writtenByKubernetes reports whether Kubernetes may write null at a place.
func writtenByKubernetes(pointer string) bool {
	return strings.HasPrefix(pointer, "/status") || strings.HasPrefix(pointer, "/metadata/")
}

// isVersion1 reports whether a document is a policy of version 1: an object with none of the
// members that an object of Kubernetes has.
func isVersion1(document []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewReader(document))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != '{' {
		return false
	}
	for {
		name, err := dec.ReadToken()
		if err != nil || name.Kind() != '"' {
			return true
		}
		switch name.String() {
		case "apiVersion", "kind", "metadata", "spec":
			return false
		}
		if err := dec.SkipValue(); err != nil {
			return true
		}
	}
}

// Convert returns a policy of version 1 as a document of version 2 with a name, which demands
// the same of every image.
func Convert(version1 []byte, name string) (*SetDocument, error) {
	p, err := Parse(version1)
	if err != nil {
		return nil, err
	}
	if err := checkName("name", name); err != nil {
		return nil, errors.New("policy: " + err.Error())
	}
	s := Every(p)
	s.Name = name
	return s.Document()
}
