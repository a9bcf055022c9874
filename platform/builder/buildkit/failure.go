package buildkit

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// place returns FILE:LINE of what failed in the Dockerfile file of tree, or "" if that is not
// certain. BuildKit says the line of some errors; only its number is used. A step is found by
// its text.
func place(err error, tree *os.Root, file, step string) string {
	line := saidLine(err, file)
	if line == 0 {
		if text, err := readFile(tree, file); err == nil {
			line = stepLine(text, step)
		}
	}
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// saidLine returns the line of file that err says it is about, or 0.
func saidLine(err error, file string) int {
	for _, s := range errdefs.Sources(err) {
		if s.GetInfo().GetFilename() != file {
			continue
		}
		for _, r := range s.GetRanges() {
			if line := r.GetStart().GetLine(); line > 0 {
				return int(line)
			}
		}
	}
	return 0
}

// stepLine returns the line of the one instruction whose text is that of a step, "[2/3] RUN …",
// or 0 if there is none, or more than one.
func stepLine(text []byte, step string) (line int) {
	_, step, ok := strings.Cut(step, "] ")
	parsed, err := parser.Parse(bytes.NewReader(text))
	if !ok || err != nil {
		return 0
	}
	for _, n := range parsed.AST.Children {
		name, rest, _ := strings.Cut(n.Original, " ")
		if strings.ToUpper(name)+" "+rest != step {
			continue
		}
		if line != 0 {
			return 0
		}
		line = n.StartLine
	}
	return line
}

var (
	// howFound matches what BuildKit puts in front of a cause: what it was doing.
	howFound = lazyregexp.New(`^(failed to solve: |failed to compute cache key: |failed to calculate checksum of ref \S+: |dockerfile parse error on line [0-9]+: )+`)
	// process matches the whole command of a step that failed, which the step's name has.
	process = lazyregexp.New(`(?s)^process ".*" did not complete successfully: `)
	missing = lazyregexp.New(`^"/?([^"]*)": not found$`)
)

// plain returns what BuildKit says about a failed step, without its own affairs.
func plain(cause string) string {
	cause = howFound.ReplaceAllString(cause, "")
	if m := missing.FindStringSubmatch(cause); m != nil {
		return fmt.Sprintf("there is no file %q where the step copies from (paths are relative to the build's context, and .dockerignore leaves files out)", m[1])
	}
	if rest := process.ReplaceAllString(cause, ""); strings.HasPrefix(rest, "exit code") {
		return "the command ended with " + rest
	}
	return cause
}

// at returns the name of a step with its place in front.
func at(place, step string) string {
	return strings.TrimSuffix(strings.TrimPrefix(place+": "+step, ": "), ": ")
}
