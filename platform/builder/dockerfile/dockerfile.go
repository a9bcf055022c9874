// Package dockerfile says what a Dockerfile uses, as BuildKit's own converter reads it. Both
// sides of a build ask it: the attest zone, whose answer counts, and the builder, which
// explains early why a build cannot work.
package dockerfile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Dockerfile has everything that determines what a build uses.
type Dockerfile struct {
	Text   []byte
	Recipe attest.Recipe
	Epoch  time.Time // SOURCE_DATE_EPOCH
}

// Convert reads the Dockerfile for a platform. images answers the converter's requests for
// the configurations of base images.
//
// For git repositories over ssh, the converter asks their host for its keys.
func (d Dockerfile) Convert(ctx context.Context, platform string, images llb.ImageMetaResolver) (res *dockerfile2llb.Result, err error) {
	defer func() { // a hostile Dockerfile may make the converter panic
		if r := recover(); r != nil {
			res, err = nil, fmt.Errorf("the parser failed: %v", r)
		}
	}()
	target, err := platforms.Parse(platform)
	if err != nil {
		return nil, err
	}
	host := platforms.Normalize(platforms.DefaultSpec())
	args := map[string]string{"SOURCE_DATE_EPOCH": strconv.FormatInt(d.Epoch.Unix(), 10)}
	maps.Copy(args, d.Recipe.BuildArgs)
	return dockerfile2llb.Dockerfile2LLB(ctx, d.Text, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs: args, Target: d.Recipe.Target,
			BuildPlatforms:         []ocispecs.Platform{{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}},
			MultiPlatformRequested: len(d.Recipe.Platforms) > 1,
		},
		TargetPlatform: &target,
		MetaResolver:   images,
	})
}

// Sources returns the sources that the Dockerfile names for the platform: all that depend on
// neither the environment nor the triggers of a base image. There are none if the converter
// cannot read the Dockerfile, which the build will explain.
func (d Dockerfile) Sources(ctx context.Context, platform string) (sources []*pb.SourceOp) {
	for _, op := range d.ops(ctx, platform) {
		if s := op.GetSource(); s != nil {
			sources = append(sources, s)
		}
	}
	return sources
}

// ops returns the steps of the build that the Dockerfile describes, with the same limits as
// Sources.
func (d Dockerfile) ops(ctx context.Context, platform string) (ops []*pb.Op) {
	defer func() {
		if recover() != nil {
			ops = nil
		}
	}()
	res, err := d.Convert(ctx, platform, anyImage{})
	if err != nil {
		return nil
	}
	def, err := res.State.Marshal(ctx)
	if err != nil {
		return nil
	}
	for _, raw := range def.Def {
		op := &pb.Op{}
		if op.UnmarshalVT(raw) == nil {
			ops = append(ops, op)
		}
	}
	return ops
}

// checksum matches the digest of ADD --checksum for a file.
var checksum = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

// Checksums returns the digests of the files that a Dockerfile adds by address and digest
// (ADD --checksum=sha256:… URL), by address. It leaves out those in which an argument is.
func Checksums(text []byte) (digests map[string]string) {
	defer func() { // a hostile Dockerfile may make the parser panic
		if recover() != nil {
			digests = nil
		}
	}()
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil
	}
	digests = map[string]string{}
	for _, s := range stages {
		for _, c := range s.Commands {
			add, ok := c.(*instructions.AddCommand)
			if ok && checksum.MatchString(add.Checksum) && len(add.SourcePaths) == 1 && !strings.Contains(add.SourcePaths[0], "$") {
				digests[add.SourcePaths[0]] = add.Checksum
			}
		}
	}
	return digests
}

// anyImage answers the converter's questions about base images with an empty image.
type anyImage struct{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (anyImage) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	var image ocispecs.Image
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		image.Platform = *opt.ImageOpt.Platform
	}
	raw, err := json.Marshal(image)
	return ref, digest.FromBytes(raw), raw, err
}

var _ llb.ImageMetaResolver = anyImage{}
