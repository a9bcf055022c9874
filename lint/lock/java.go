package lock

import (
	"encoding/xml"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/colophon-build/colophon/lint/finding"
)

// gradleHashes checks gradle/verification-metadata.xml.
func gradleHashes(f *finding.File) (found []finding.Finding) {
	dec := xml.NewDecoder(strings.NewReader(string(f.Data)))
	var artifact, component string
	var start int64
	has := false
	for {
		at := dec.InputOffset()
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			line, _ := dec.InputPos()
			return append(found, syntax(f, line, err))
		}
		switch e := token.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "component":
				component = attribute(e, "group") + ":" + attribute(e, "name") + ":" + attribute(e, "version")
			case "artifact":
				artifact, start, has = component+" "+attribute(e, "name"), at, false
			case "sha256", "sha512", "pgp":
				has = true
			}
		case xml.EndElement:
			if e.Name.Local == "artifact" && !has {
				found = append(found, without(f, f.Position(int(start), int(start)+len("<artifact")), artifact, "run gradle --write-verification-metadata sha256"))
			}
		case xml.CharData:
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// pomNames returns "GROUP:ARTIFACT" of each dependency of a pom.xml, but for those whose names are
// properties, and those of the project itself.
func pomNames(f *finding.File) (names []string, ok bool, err error) {
	var p struct {
		GroupID string `xml:"groupId"`
		Parent  struct {
			GroupID string `xml:"groupId"`
		} `xml:"parent"`
		Dependencies []struct {
			GroupID    string `xml:"groupId"`
			ArtifactID string `xml:"artifactId"`
		} `xml:"dependencies>dependency"`
	}
	if err := xml.Unmarshal(f.Data, &p); err != nil {
		fault := &fault{err: err}
		if e, ok := errors.AsType[*xml.SyntaxError](err); ok {
			fault.line = e.Line
		}
		return nil, false, fault
	}
	for _, d := range p.Dependencies {
		if own := d.GroupID == p.GroupID || d.GroupID == p.Parent.GroupID; !own && !strings.Contains(d.GroupID+d.ArtifactID, "$") {
			names = append(names, strings.TrimSpace(d.GroupID)+":"+strings.TrimSpace(d.ArtifactID))
		}
	}
	return names, true, nil
}

// mavenDependency is an entry of lockfile.json, which maven-lockfile writes.
type mavenDependency struct {
	GroupID    string            `json:"groupId"`
	ArtifactID string            `json:"artifactId"`
	Version    string            `json:"version"`
	Checksum   string            `json:"checksum"`
	Children   []mavenDependency `json:"children"`
}

type mavenLock struct {
	Dependencies []mavenDependency `json:"dependencies"`
}

func (l *mavenLock) each(all []mavenDependency, f func(mavenDependency)) {
	for _, d := range all {
		f(d)
		l.each(d.Children, f)
	}
}

// mavenLocked looks for the names in lockfile.json, or in the list of hashes of Maven's resolver.
func mavenLocked(lock *finding.File) (func(string) bool, error) {
	if path.Base(lock.Path) != "lockfile.json" {
		have := map[string]bool{} // a line is HASH GROUP/ARTIFACT/VERSION/FILE, with slashes in GROUP
		for line := range strings.Lines(string(lock.Data)) {
			if _, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				have[path.Dir(path.Dir(strings.TrimLeft(file, " *")))] = true
			}
		}
		return func(name string) bool {
			group, artifact, _ := strings.Cut(name, ":")
			return have[strings.ReplaceAll(group, ".", "/")+"/"+artifact]
		}, nil
	}
	var l mavenLock
	if err := readJSON(lock, &l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	l.each(l.Dependencies, func(d mavenDependency) { have[d.GroupID+":"+d.ArtifactID] = true })
	return func(name string) bool { return have[name] }, nil
}

// isMavenLock reports whether a lockfile.json is one of Maven: other tools have files of this name too.
func isMavenLock(f *finding.File) bool {
	return strings.Contains(string(f.Data), `"checksumAlgorithm"`)
}

// mavenHashes checks lockfile.json.
func mavenHashes(f *finding.File) (found []finding.Finding) {
	var l mavenLock
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	l.each(l.Dependencies, func(d mavenDependency) {
		if d.Checksum == "" {
			found = append(found, without(f, entryOf(f, d.ArtifactID), d.GroupID+":"+d.ArtifactID+" "+d.Version, "run mvn io.github.chains-project:maven-lockfile:generate"))
		}
	})
	return found
}

// wrapperHash checks that the wrapper of Gradle or Maven compares what it downloads and runs.
func wrapperHash(f *finding.File) []finding.Finding {
	at, sum, address := 0, false, ""
	for n := 1; n <= f.Lines(); n++ {
		switch name, value := property(f.Line(n)); name {
		case "distributionUrl":
			at, address = n, value
		case "distributionSha256Sum":
			sum = len(value) == 64
		}
	}
	if at == 0 {
		return nil
	}
	place := f.Position(f.LineStart(at), f.LineEnd(at))
	found := plain(place, address)
	if !sum {
		found = append(found, finding.Finding{Rule: ruleUnverified, Position: place, Message: "the wrapper runs what it downloads, without a hash",
			Mend: "add distributionSha256Sum with the hash that the project publishes"})
	}
	return found
}

// property reads a line of a file of properties (java.util.Properties, load). A backslash hides what follows it.
//
//	LINE = NAME ( "=" / ":" / SPACE ) VALUE / "#" COMMENT / "!" COMMENT
func property(line string) (name, value string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || line[0] == '!' {
		return "", ""
	}
	end := 0
	for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	value = strings.TrimLeft(line[end:], " \t\f")
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], " \t\f")
	}
	plainly := strings.NewReplacer(`\\`, `\`, `\`, "")
	return plainly.Replace(line[:end]), plainly.Replace(value)
}
