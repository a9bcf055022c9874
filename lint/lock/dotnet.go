package lock

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/lint/finding"
)

// dotnetNames returns the packages of a project. Those that have a condition are not in each lock file.
func dotnetNames(f *finding.File) (names []string, ok bool, err error) {
	dec := xml.NewDecoder(strings.NewReader(string(f.Data)))
	dec.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	conditions := 0
	for depth := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return names, ok, nil
		} else if err != nil {
			line, _ := dec.InputPos()
			return nil, false, &fault{line, err}
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			if conditions == 0 && attribute(e, "Condition") != "" {
				conditions = depth
			}
			if name := attribute(e, "Include"); e.Name.Local == "PackageReference" && name != "" {
				ok = true
				if conditions == 0 && !strings.Contains(name, "$") {
					names = append(names, name)
				}
			}
		case xml.EndElement:
			if depth == conditions {
				conditions = 0
			}
			depth--
		}
	}
}

type nugetLock struct {
	Dependencies map[string]map[string]struct {
		Type        string `json:"type"`
		Resolved    string `json:"resolved"`
		ContentHash string `json:"contentHash"`
	} `json:"dependencies"`
}

func nugetLocked(lock *finding.File) (func(string) bool, error) {
	var l nugetLock
	if err := readJSON(lock, &l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, target := range l.Dependencies {
		for name := range target {
			have[strings.ToLower(name)] = true
		}
	}
	return func(name string) bool { return have[strings.ToLower(name)] }, nil
}

func nugetHashes(f *finding.File) (found []finding.Finding) {
	var l nugetLock
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, target := range slices.Sorted(maps.Keys(l.Dependencies)) {
		for _, name := range slices.Sorted(maps.Keys(l.Dependencies[target])) {
			if p := l.Dependencies[target][name]; !strings.EqualFold(p.Type, "project") && p.ContentHash == "" {
				found = append(found, without(f, entryOf(f, name), name+" "+p.Resolved, "run dotnet restore --force-evaluate"))
			}
		}
	}
	return found
}
