package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

const (
	maxDockerfile = 1 << 20  // bytes
	maxLine       = 16 << 10 // bytes of one line of a step's output
	maxOutput     = 64 << 20 // bytes of all output of one build
	maxSteps      = 20000    // steps of one build that are reported
	maxName       = 4 << 10  // bytes of one step's name
	maxPlatforms  = 16
)

// dockerfileSyntax matches the syntax lines that buildkitd's own frontend serves.
var dockerfileSyntax = lazyregexp.New(`^(docker\.io/)?docker/dockerfile(:1(\.[0-9]+){0,2}(-labs)?)?(@sha256:[0-9a-f]{64})?$`)

// options returns the solve options for a request and its source tree. The build sees seen,
// the context in the tree; the caller closes its root. options returns an error if the
// recipe is not allowed.
func options(ctx context.Context, req builder.Request, tree *sourceTree) (_ client.SolveOpt, seen *sourceTree, err error) {
	r := req.Recipe
	r.Builder = attest.BuildKit
	var none client.SolveOpt
	if req.Epoch.Unix() <= 0 {
		return none, nil, fmt.Errorf("SOURCE_DATE_EPOCH: got %d, want the commit's time", req.Epoch.Unix())
	}
	if err := r.Check(); err != nil {
		return none, nil, &builder.Error{Err: err}
	}
	r = r.Filled()
	attrs := map[string]string{
		"build-arg:SOURCE_DATE_EPOCH": strconv.FormatInt(req.Epoch.Unix(), 10),
		"attest:provenance":           "mode=max,version=v1",
		// If this attribute is present, a syntax line does not download another frontend.
		"cmdline": "",
	}
	file := r.Dockerfile
	text, err := readDockerfile(tree.root, file)
	if err != nil {
		return none, nil, &builder.Error{Step: file, Err: err}
	}
	attrs["filename"] = file
	req.Recipe.Dockerfile = file
	if r.Target != "" {
		attrs["target"] = r.Target
	}
	for k, v := range r.BuildArgs {
		attrs["build-arg:"+k] = v
	}
	context, err := builder.OpenContext(tree.root, r.Context)
	if err != nil {
		return none, nil, &builder.Error{Step: "source", Err: err}
	}
	seen = newSourceTree(context, req.Epoch)
	defer func() {
		if err != nil {
			context.Close()
		}
	}()
	plats := r.Platforms
	if len(plats) == 0 {
		plats = []string{hostPlatform()}
	}
	if len(plats) > maxPlatforms {
		return none, nil, &builder.Error{Err: fmt.Errorf("platforms: got %d, want at most %d", len(plats), maxPlatforms)}
	}
	for _, p := range plats {
		if _, err := platforms.Parse(p); err != nil {
			return none, nil, &builder.Error{Err: fmt.Errorf("platform: got %q, want OS/ARCH, such as linux/amd64", p)}
		}
		if err := checkSources(ctx, text, req, p, tree, seen); err != nil {
			return none, nil, err
		}
		if err := checkSecrets(ctx, text, req, p); err != nil {
			return none, nil, err
		}
	}
	attrs["platform"] = strings.Join(plats, ",")

	return client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   map[string]fsutil.FS{"context": seen, "dockerfile": tree},
		ProxyNetwork:  true,
	}, seen, nil
}

// readDockerfile reads the Dockerfile, and checks that its syntax line is allowed, before
// anything runs.
func readDockerfile(root *os.Root, file string) ([]byte, error) {
	text, err := readFile(root, file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the source has no such file (use --dockerfile to name another)")
	} else if err != nil {
		return nil, err
	}
	if ref, _, _, ok := parser.DetectSyntax(text); ok && !dockerfileSyntax.MatchString(ref) {
		return nil, fmt.Errorf("syntax: got %q, want docker/dockerfile:1 (other frontends are not supported)", ref)
	}
	return text, nil
}

// readFile reads a file of the tree, of at most maxDockerfile bytes.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err == nil && len(text) > maxDockerfile {
		err = fmt.Errorf("more than %d bytes", maxDockerfile)
	}
	return text, err
}

// solve runs the build and unpacks its export into the directory layout.
func (d *daemon) solve(ctx context.Context, opt client.SolveOpt, layout string, p *progress) error {
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := builder.UnpackLayout(r, layout)
		// If unpacking fails, the export must fail too instead of blocking.
		r.CloseWithError(err)
		unpacked <- err
	}()
	opt.Exports = []client.ExportEntry{{
		Type:   client.ExporterOCI,
		Attrs:  map[string]string{"rewrite-timestamp": "true", "oci-mediatypes": "true"},
		Output: func(map[string]string) (io.WriteCloser, error) { return w, nil },
	}}
	status := make(chan *client.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for s := range status {
			p.update(s)
		}
		p.flush()
	}()
	_, err := d.client.Solve(ctx, nil, opt, status)
	<-shown
	w.CloseWithError(errNoExport)
	uerr := <-unpacked
	// If unpacking failed, the export failed because of it, so return the first cause.
	if uerr != nil && !errors.Is(uerr, errNoExport) && ctx.Err() == nil {
		return uerr
	}
	if err != nil {
		return err
	}
	return uerr
}

// errNoExport ends the unpacking if the build has ended without an export.
var errNoExport = errors.New("the build ended before its export")

// progress turns BuildKit's status into events, and remembers the step that failed.
type progress struct {
	log func(builder.Event)

	mu      sync.Mutex
	names   map[digest.Digest]string
	started map[digest.Digest]bool
	ended   map[digest.Digest]bool
	partial map[digest.Digest][]byte
	order   []digest.Digest
	total   int
	unnamed bool // some steps were left out
	current string
	failed  string
	cause   string
	output  string // what there was to read when the step failed
	recent  string // the last line of output
	foreign string // BuildKit's warning that a base image is for another platform than the requested one
}

// unmapped matches what the kernel makes programs say about a user or group that does not
// exist in a room.
var unmapped = lazyregexp.New(`(?i)(chown|ownership|setup user|set[a-z]*[ug]id|setgroups|[ug]id)[^\n]*invalid argument`)

// foreignBase is the prefix of BuildKit's warning that a base image is for another
// platform than the requested one. BuildKit uses such an image if it has only one
// platform. The result would claim a platform on which its programs cannot run.
const foreignBase = "InvalidBaseImagePlatform: "

func (p *progress) update(s *client.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names, p.partial = map[digest.Digest]string{}, map[digest.Digest][]byte{}
		p.started, p.ended = map[digest.Digest]bool{}, map[digest.Digest]bool{}
	}
	var ended []digest.Digest
	for _, v := range s.Vertexes {
		if len(v.Name) > maxName {
			v.Name = v.Name[:maxName] + " …"
		}
		if _, known := p.names[v.Digest]; !known && len(p.names) >= maxSteps {
			p.unnamed = true
			continue
		}
		p.names[v.Digest] = v.Name
		if v.Started != nil && !p.started[v.Digest] {
			p.started[v.Digest] = true
			p.current = v.Name
			p.emit(builder.Event{Step: v.Name})
		}
		if v.Completed != nil && p.started[v.Digest] && !p.ended[v.Digest] {
			p.ended[v.Digest] = true
			ended = append(ended, v.Digest)
		}
		// Skip steps that were cancelled because another step failed.
		if v.Error != "" && p.cause == "" && !strings.Contains(v.Error, "context canceled") {
			p.failed, p.cause = v.Name, v.Error
			p.output = string(p.partial[v.Digest]) + "\n" + p.recent
		}
	}
	for _, w := range s.Warnings {
		if short, ok := strings.CutPrefix(string(w.Short), foreignBase); ok && p.foreign == "" {
			p.foreign = short[:min(len(short), maxName)]
		}
	}
	for _, l := range s.Logs {
		if p.total += len(l.Data); p.total > maxOutput || p.names[l.Vertex] == "" {
			continue
		}
		if _, ok := p.partial[l.Vertex]; !ok {
			p.order = append(p.order, l.Vertex)
		}
		buf := append(p.partial[l.Vertex], l.Data...)
		for {
			i := strings.IndexByte(string(buf), '\n')
			if i < 0 && len(buf) <= maxLine {
				break
			}
			if i < 0 || i > maxLine {
				i = maxLine
				p.emit(builder.Event{Step: p.names[l.Vertex], Line: string(buf[:i])})
				buf = buf[i:]
				continue
			}
			p.emit(builder.Event{Step: p.names[l.Vertex], Line: strings.TrimSuffix(string(buf[:i]), "\r")})
			buf = buf[i+1:]
		}
		p.partial[l.Vertex] = buf
	}
	for _, v := range ended { // after their last output, which the same status may have
		if buf := p.partial[v]; len(buf) > 0 {
			p.emit(builder.Event{Step: p.names[v], Line: string(buf)})
			p.partial[v] = nil
		}
		p.emit(builder.Event{Step: p.names[v], Done: true})
	}
}

// flush emits the last lines of steps whose output did not end with a newline.
func (p *progress) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.order {
		if buf := p.partial[v]; len(buf) > 0 {
			p.emit(builder.Event{Step: p.names[v], Line: string(buf)})
		}
	}
	p.partial = map[digest.Digest][]byte{}
	if p.unnamed {
		p.emit(builder.Event{Line: fmt.Sprintf("the build has more than %d steps: the others are not reported", maxSteps)})
	}
	if p.total > maxOutput {
		p.emit(builder.Event{Line: fmt.Sprintf("the output of %d bytes was truncated to %d", p.total, maxOutput)})
	}
}

func (p *progress) emit(e builder.Event) {
	if e.Line != "" {
		p.recent = e.Line
	}
	if p.log != nil {
		p.log(e)
	}
}

func (p *progress) failure() (step, cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == "" {
		return p.failed, ""
	}
	if strings.Contains(p.failed, "] ADD ") && strings.Contains(p.cause, `exec: "git"`) { // a room has no git
		return p.failed, noGit
	}
	return p.failed, plain(p.cause) + hint(p.cause+"\n"+p.output+"\n"+p.recent) // the last line may come after the failure
}

// hint says why a step failed whose error and last output only say how.
func hint(said string) string {
	switch {
	case strings.Contains(said, "exec format error"):
		return " (the step runs programs for another platform than this machine's; cross-compile in a stage FROM --platform=$BUILDPLATFORM)"
	case unmapped.MatchString(said):
		return " (a room has the user and group ids " + sandbox.IDs() + "; use one of them in chown and USER, or another base image)"
	}
	return ""
}

func (p *progress) foreignBase() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.foreign
}

func (p *progress) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}
