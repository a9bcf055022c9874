package golang

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	maxNotes = 20 // packages that are named
	maxList  = 64 << 20
)

// leftOut returns, for people, the packages of the build whose files import "C". The
// compiler leaves these files out, because cgo is off; a package may do something else
// without them.
func leftOut(j *job) (lines []string) {
	seen := map[string]bool{}
	for _, p := range j.Platforms {
		packages, err := cgoPackages(j, p)
		if err != nil {
			return append(lines, "the platform cannot tell whether the build leaves out files with cgo: "+err.Error())
		}
		for _, line := range packages {
			if !seen[line] {
				seen[line] = true
				lines = append(lines, line)
			}
		}
	}
	if more := len(lines) - maxNotes; more > 0 {
		lines = append(lines[:maxNotes], fmt.Sprintf("and %d more packages", more))
	}
	return lines
}

// cgoPackages asks the go command which files it would give to cgo. It compiles nothing.
func cgoPackages(j *job, platform string) (lines []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(j.Goroot, "bin", "go"), "list", "-deps", "-e", "-json=ImportPath,Standard,CgoFiles", j.Package)
	cmd.Dir = filepath.Join(j.Tree, j.Module)
	part := strings.Split(platform, "/")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS="+part[0], "GOARCH="+part[1]) // the last value counts
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := &tail{max: 1000}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(out, maxList))
	out.Close() // the command ends even if it has more to say
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, strings.TrimSpace(said.String()))
	}
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p struct {
			ImportPath string
			Standard   bool
			CgoFiles   []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			slices.Sort(lines)
			return lines, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if !p.Standard && len(p.CgoFiles) > 0 {
			lines = append(lines, fmt.Sprintf("package %s is built without cgo (CGO_ENABLED=0), so without %s", p.ImportPath, strings.Join(p.CgoFiles, ", ")))
		}
	}
}
