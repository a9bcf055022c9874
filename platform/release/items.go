package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/differ"
	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/recipes"
)

// Names of the processes apart of a release, besides scan.Task. Whatever parses the repository
// or the image runs in them: git, the export, the measurement, the comparison, the SBOM's scanner.
const (
	taskSource     = "reading the repository"
	taskDockerfile = "reading the Dockerfile"
	taskImage      = "reading the image"
)

// Directories of these processes, below that of the work.
const (
	dirSource = "source"
	dirImage  = "image"
	dirScan   = "scan"
)

// maxScans is the number of images that are scanned at once. Each scan may need all of
// imageLimits.Memory and Scratch.
const maxScans = 2

// Init does the work of the processes apart and does not return in one. A program that
// has a Releaser calls it first in main.
func Init() {
	zone.InitApart(map[string]zone.Task{
		taskSource:     doSource,
		taskDockerfile: doDockerfile,
		taskImage:      doImage,
	})
}

// Probe returns why this host cannot run the processes apart, confined as c says; nil if it can.
func Probe(c Confinement, scanner string) error {
	dir, err := os.MkdirTemp("", "probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at := zone.Apart{Task: taskImage, Dir: dir, Hide: c.Hide, Namespaces: c.Namespaces, Limits: imageLimits}
	if err := at.Probe(); err != nil {
		return err
	}
	at.Program, at.Task = scanner, scan.Task
	return at.Probe()
}

// Confinement says how far a host can confine the processes apart.
type Confinement struct {
	Namespaces bool     `json:"namespaces"` // they get namespaces of their own
	Hide       []string `json:"hide"`       // directories that they must not see, besides /tmp
	Keys       []string `json:"keys"`       // directories with the keys of ssh; only the process for an ssh source sees them
}

// Limits of the processes apart. Memory and Processes count for git too, which packs
// large repositories.
var (
	sourceLimits = zone.Limits{Memory: 2 << 30, Scratch: 256 << 20, FileSize: limits.TreeBytes, Files: 4096, Processes: 1000, Time: time.Hour}
	imageLimits  = zone.Limits{Memory: 2 << 30, Scratch: 1 << 30, FileSize: limits.LayerPacked, Files: 4096, Processes: 1000, Time: 15 * time.Minute}
)

// sourceOrder makes the process fetch and export a commit.
type sourceOrder struct {
	Request   source.Request `json:"request"`
	Git, Tree string         // directories to fetch and to export to
	Image     string         // REGISTRY/NAME, for its recipe; empty: the names of all declared images
	Bare      bool           // the commit declares nothing: the Dockerfile only adds it
}

type sourceAnswer struct {
	Commit  source.Commit `json:"commit"`
	Tree    source.Tree   `json:"tree"`
	Unknown string        `json:"unknown,omitempty"` // the repository does not have the ref: the error

	Own   *attest.DefaultRecipe `json:"own,omitempty"`   // the recipe of the commit itself; nil if it has none
	Wrong string                `json:"wrong,omitempty"` // what is wrong with the file that declares it

	Images []string `json:"images,omitempty"` // the names of the images that the commit declares
}

func doSource(ctx context.Context, raw json.RawMessage) (any, error) {
	var o sourceOrder
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	var a sourceAnswer
	repo, commit, err := source.Fetch(ctx, o.Git, o.Request)
	if errors.Is(err, source.ErrUnknownRef) {
		a.Unknown = err.Error()
		return a, nil
	} else if err != nil {
		return nil, err
	}
	if a.Commit = commit; commit.Signature.Status == source.Bad { // it will not be built
		return a, nil
	}
	if a.Tree, err = repo.Export(ctx, o.Tree); err != nil {
		return a, err
	}
	switch {
	case o.Bare:
	case o.Image == "":
		a.Images, err = recipes.Names(o.Tree)
	default:
		a.Own, err = recipes.Default(o.Tree, o.Image)
	}
	if err != nil {
		a.Wrong = err.Error()
	}
	return a, nil
}

// imageOrder has exactly one member.
type imageOrder struct {
	Measure string           `json:"measure,omitempty"` // a layout
	Files   string           `json:"files,omitempty"`   // a layout with release files
	Compare *[2]differ.Image `json:"compare,omitempty"`
	Modules *modulesOrder    `json:"modules,omitempty"`
	Stage   *stageOrder      `json:"stage,omitempty"`
}

// modulesOrder names images in a layout whose Go binaries are read.
type modulesOrder struct {
	Layout    string     `json:"layout"`
	Manifests []v1.Hash  `json:"manifests,omitempty"`
	Files     []oci.File `json:"files,omitempty"` // release files, in place of images
}

// imageAnswer has the answer to the order's member.
type imageAnswer struct {
	Measured    *oci.Measured `json:"measured,omitempty"`
	Differences []string      `json:"differences,omitempty"`
	Linked      []linked      `json:"linked,omitempty"`
	Files       []oci.File    `json:"files,omitempty"`
}

func doImage(ctx context.Context, raw json.RawMessage) (any, error) {
	var o imageOrder
	err := json.Unmarshal(raw, &o)
	var a imageAnswer
	switch {
	case err != nil:
	case o.Measure != "":
		a.Measured, err = oci.MeasureLayout(o.Measure)
	case o.Files != "":
		a.Measured, err = oci.MeasureFiles(o.Files)
	case o.Compare != nil:
		a.Differences, err = differ.Describe(o.Compare[0], o.Compare[1])
	case o.Modules != nil:
		a.Linked, err = linkedModules(ctx, *o.Modules)
	case o.Stage != nil:
		a.Files, err = unpackStage(ctx, *o.Stage)
	default:
		err = errors.New("empty order")
	}
	return a, err
}

// apart describes a process of the release. dir is its directory, below the work's.
func (j *run) apart(task, dir string, limits zone.Limits) (zone.Apart, error) {
	a := zone.Apart{Task: task, Dir: filepath.Join(j.dir, dir), Hide: j.Confinement.Hide, Namespaces: j.Confinement.Namespaces, Limits: limits}
	return a, os.Mkdir(a.Dir, 0o700)
}

// readSource fetches the commit and exports its tree.
func (j *run) readSource(ctx context.Context) (sourceAnswer, error) {
	j.tree = filepath.Join(j.dir, dirSource, "tree")
	login, err := j.Credentials.ForSource(ctx, j.req.Source)
	if err != nil {
		return sourceAnswer{}, noLogin(err)
	}
	return j.readRepository(ctx, dirSource, sourceOrder{Git: filepath.Join(j.dir, dirSource, "git"), Tree: j.tree, Image: j.req.Image, Request: source.Request{
		URI: j.req.Source, Ref: j.req.Ref, Commit: j.req.Commit, Credential: login,
		AllowedSigners: []byte(j.req.AllowedSigners), Keyring: []byte(j.req.Keyring),
	}})
}

// readRepository executes an order in a process apart, whose directory is dir, below the work's.
func (j *run) readRepository(ctx context.Context, dir string, o sourceOrder) (a sourceAnswer, err error) {
	at, err := j.apart(taskSource, dir, sourceLimits)
	if err != nil {
		return a, err
	}
	for _, d := range []string{o.Git, o.Tree} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return a, err
		}
	}
	if o.Request.Credential != nil {
		j.loggedIn = append(j.loggedIn, o.Request.Credential.Scope)
	}
	at.Confine = confine.Policy{Exec: true, Inet: true}
	stop, err := j.reach(&at, &o.Request)
	if err != nil {
		return a, err
	}
	defer stop()
	process, err := at.Start()
	if err != nil {
		return a, err
	}
	defer process.Close() // the tree is read after the process has ended
	err = process.Do(ctx, o, &a)
	return a, err
}

// reach gives the process that fetches r what it needs below the hidden directories:
// keys for ssh, a local repository or the way to it.
func (j *run) reach(at *zone.Apart, r *source.Request) (stop func(), err error) {
	stop = func() {}
	uri, err := source.Canonical(r.URI)
	if err != nil {
		return stop, nil // Fetch says what is wrong with it
	}
	local, isLocal := strings.CutPrefix(uri, "file://")
	switch {
	case r.Credential != nil: // it has the key
	case strings.HasPrefix(uri, "ssh://"):
		at.Show = append(at.Show, existing(j.Confinement.Keys)...)
	case isLocal && j.LocalGit != nil:
		r.UploadPack, stop, err = j.LocalGit(filepath.Join(at.Dir, "git.sock"))
	case isLocal:
		at.Show = append(at.Show, existing([]string{local})...)
	}
	return stop, err
}

func existing(paths []string) (out []string) {
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// startImage starts the process apart that reads the image. It sees the builds' layouts, and
// can write to none of them.
func (j *run) startImage(layouts ...string) (err error) {
	at, err := j.apart(taskImage, dirImage, imageLimits)
	if err != nil {
		return err
	}
	j.show(&at, layouts)
	j.image, err = at.Start()
	return err
}

// startScanner starts the process apart that scans the image. It sees what that of startImage
// sees, and prepares itself while the image is built.
func (j *run) startScanner(layouts ...string) (err error) {
	task := scan.Task
	if j.recipe.Files {
		task = scan.TaskFiles
	}
	at, err := j.apart(task, dirScan, imageLimits)
	if err != nil {
		return err
	}
	at.Program = j.Scanner
	j.show(&at, layouts)
	j.scanner, err = at.Start()
	return err
}

func (j *run) show(at *zone.Apart, layouts []string) {
	for _, l := range layouts {
		at.Show = append(at.Show, filepath.Join(j.dir, l))
	}
}

// measureLayout measures a layout of an image, or of release files, in the process apart.
func (j *run) measureLayout(ctx context.Context, layout string, files bool) (*oci.Measured, error) {
	var a imageAnswer
	o := imageOrder{Measure: layout}
	if files {
		o = imageOrder{Files: layout}
	}
	if err := j.image.Do(ctx, o, &a); err != nil {
		return nil, err
	}
	if a.Measured == nil {
		return nil, errors.New("no measurement")
	}
	return a.Measured, nil
}

// linked lists the modules in the Go binaries of the image, in the process apart.
func (j *run) linked(ctx context.Context, layout string, m *oci.Measured) ([]linked, error) {
	o := modulesOrder{Layout: layout, Files: m.Files}
	for _, p := range m.Platforms {
		o.Manifests = append(o.Manifests, p.Manifest.Digest)
	}
	var a imageAnswer
	if err := j.image.Do(ctx, imageOrder{Modules: &o}, &a); err != nil {
		return nil, fmt.Errorf("reading the modules of the image's binaries: %w", err)
	}
	return a.Linked, nil
}

// names of an image's SBOMs in the directory of the work.
const (
	fileSPDX = "sbom.spdx.json"
	fileCDX  = "sbom.cdx.json"
)

// scan writes the SBOMs of the image, or of the release files, in the scanner's process apart. It
// comes before the release is certain to finish: what cannot be scanned is refused, not tried
// again after each restart.
func (j *run) scan(ctx context.Context, b *built, m *oci.Measured) error {
	j.emit(api.Event{Phase: "sbom"})
	select { // scans need the most memory
	case j.scans <- struct{}{}:
		defer func() { <-j.scans }()
	case <-ctx.Done():
		return ctx.Err()
	}
	digest, err := builder.FileDigest(j.Scanner)
	if err != nil {
		return fmt.Errorf("SBOM: %w", err)
	}
	b.Tools = append(b.Tools, attest.ResourceDescriptor{Name: scan.Program, Digest: map[string]string{"sha256": digest}})
	if j.recipe.Files {
		return j.scanFiles(ctx, b, m)
	}
	if j.req.DockerAttestations {
		if err := j.scanPlatforms(ctx, b, m); err != nil {
			return err
		}
	}
	top, err := j.compose(b, m)
	if err != nil {
		return err
	}
	documents, err := j.scanOne(ctx, scan.Order{Layout: b.Layout, Digest: m.Descriptor.Digest, Subject: top.Digest})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		doc  []byte
		sum  *string
	}{{fileSPDX, documents.SPDX, &b.SPDX}, {fileCDX, documents.CycloneDX, &b.CDX}} {
		if err := durable.WriteFile(filepath.Join(j.dir, f.name), f.doc, 0o600); err != nil {
			return err
		}
		*f.sum = hexSum(f.doc)
	}
	return nil
}

// scanOne fills in the order and has the scanner execute it.
func (j *run) scanOne(ctx context.Context, o scan.Order) (scan.Documents, error) {
	o.Dir = filepath.Join(j.dir, dirScan)
	o.Image, o.Created, o.Source = j.req.Image, j.commit.Time, j.commit
	return j.scanned(ctx, "the image", o)
}

// scanned has the scanner execute an order. what names in errors what is scanned.
func (j *run) scanned(ctx context.Context, what string, order any) (documents scan.Documents, err error) {
	err = j.scanner.Do(ctx, order, &documents)
	switch {
	case ctx.Err() != nil:
		return documents, ctx.Err()
	case errors.Is(err, zone.ErrLimit):
		return documents, &api.Error{Message: what + " cannot be scanned for its SBOM: " + err.Error(), Hint: "a file in it makes the scanner do too much work; look for package databases and archives that are not real ones"}
	case err != nil:
		return documents, fmt.Errorf("SBOM: %w", err)
	}
	for _, doc := range [][]byte{documents.SPDX, documents.CycloneDX} {
		if len(doc) > limits.Statement || !json.Valid(doc) {
			return documents, fmt.Errorf("SBOM: got %d bytes, want JSON of at most %d", len(doc), limits.Statement)
		}
	}
	return documents, nil
}

// readSBOM reads an SBOM that scan wrote, possibly before a restart.
func (j *run) readSBOM(name, sum string) (json.RawMessage, error) {
	doc, err := strict.ReadFile(filepath.Join(j.dir, name), limits.Statement)
	if err != nil {
		return nil, err
	}
	if got := hexSum(doc); got != sum {
		return nil, fmt.Errorf("%s: got sha256 %s, want %s", name, got, sum)
	}
	return doc, nil
}
