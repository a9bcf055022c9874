package documents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// list is what kubectl prints for several objects.
type list struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Continue        string `json:"continue,omitempty"`
		Remaining       int    `json:"remainingItemCount,omitempty"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
		SelfLink        string `json:"selfLink,omitempty"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// Objects is Read for a file of Kubernetes objects. In place of a List (v1), as kubectl prints
// several objects, it returns the items, whose errors have their places in the file. An item that
// is no object with apiVersion and kind, and a list within a list, is an error. most limits the
// documents and the items together.
func Objects(file []byte, max, most int) ([]*Document, error) {
	docs, err := Read(file, max, most)
	if err != nil {
		return nil, err
	}
	var out []*Document
	for _, d := range docs {
		if !d.isList() {
			out = append(out, d)
			continue
		}
		items, err := d.items(most - len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, items...)
	}
	if len(out) > most {
		return nil, fault(1, 1, "got %d documents, want at most %d", len(out), most)
	}
	return out, nil
}

// isList reports whether the document is a List. One that cannot be read is none: whoever reads
// it gets the error.
func (d *Document) isList() bool {
	apiVersion, kind, err := d.Head()
	return err == nil && apiVersion == "v1" && kind == "List"
}

// items returns the items of a list as documents.
func (d *Document) items(most int) ([]*Document, error) {
	var l list
	if err := d.Unmarshal(&l); err != nil {
		return nil, err
	}
	switch {
	case l.Metadata.Continue != "" || l.Metadata.Remaining != 0:
		return nil, d.Fault("/metadata", "expected a whole list, found a part of one: get it without --chunk-size")
	case len(l.Items) == 0:
		return nil, d.Fault("/items", "expected items, found none")
	case len(l.Items) > most:
		return nil, d.Fault("/items", fmt.Sprintf("expected at most %d objects in a file, found %d more", most, len(l.Items)-most))
	}
	out := make([]*Document, 0, len(l.Items))
	for i, at := range d.elements("/items") {
		item := d.part(at[0], at[1])
		apiVersion, kind, err := item.Head()
		switch {
		case err != nil:
			return nil, err
		case apiVersion == "" || kind == "":
			return nil, d.Fault(fmt.Sprintf("/items/%d", i), "expected an object with apiVersion and kind, found one without")
		case apiVersion == "v1" && strings.HasSuffix(kind, "List"):
			return nil, d.Fault(fmt.Sprintf("/items/%d/kind", i), "expected no list within a list, found "+kind)
		}
		out = append(out, item)
	}
	return out, nil
}

// elements returns where in d.JSON each element of an array that is a member of the document
// begins and ends.
func (d *Document) elements(pointer string) (out [][2]int) {
	dec := jsontext.NewDecoder(bytes.NewReader(d.JSON))
	for {
		t, err := dec.ReadToken()
		if err != nil {
			return out
		}
		if t.Kind() != '[' || dec.StackDepth() != 2 || string(dec.StackPointer()) != pointer {
			continue
		}
		for dec.PeekKind() != ']' {
			v, err := dec.ReadValue()
			if err != nil {
				return out
			}
			end := int(dec.InputOffset())
			out = append(out, [2]int{end - len(v), end})
		}
		return out
	}
}

// part returns a value of the document as a document of its own.
func (d *Document) part(from, to int) *Document {
	out := &Document{JSON: d.JSON[from:to], file: d.file}
	if d.marks == nil {
		out.before = d.before + from
		return out
	}
	for _, m := range d.marks {
		if m.at >= from && m.at < to {
			out.marks = append(out.marks, mark{m.at - from, m.line, m.column})
		}
	}
	return out
}
