package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/builder"
)

// checkSources returns an error if a build for the platform cannot succeed because of what
// its Dockerfile adds or copies: a git repository, or a file of the context whose name BuildKit cannot
// express. It knows what depends on neither the environment nor the triggers of a base image;
// the rest fails in the build, which says the same.
func checkSources(ctx context.Context, text []byte, req builder.Request, platform string, tree, seen *sourceTree) error {
	for _, op := range sources(ctx, text, req, platform) {
		kind, _, _ := strings.Cut(op.Identifier, "://")
		switch {
		case kind == "git":
			return &builder.Error{Step: "ADD " + credential.URL(op.Attrs[pb.AttrFullRemoteURL]), Err: errors.New(noGit)}
		case op.Identifier == "local://"+dockerui.DefaultLocalNameContext:
			var follow []string
			if list := op.Attrs[pb.AttrFollowPaths]; list != "" && json.Unmarshal([]byte(list), &follow) != nil {
				return nil
			}
			if err := seen.checkNames(ctx, follow, ignored(tree, seen, req.Recipe.Dockerfile)); err != nil {
				return err
			}
		}
	}
	return nil
}

const noGit = "a git repository cannot be added: make it a submodule, which is fetched at its commit, or add an archive of it (ADD --checksum=sha256:… https://….tar.gz)"

// sources returns the sources that the Dockerfile names for the platform, as BuildKit's own
// converter reads it without knowing a base image; none if it cannot read it, which BuildKit
// will explain.
func sources(ctx context.Context, text []byte, req builder.Request, platform string) (ops []*pb.SourceOp) {
	defer func() { // a hostile Dockerfile may make the converter panic
		if recover() != nil {
			ops = nil
		}
	}()
	target, err := platforms.Parse(platform)
	if err != nil {
		return nil
	}
	host := platforms.Normalize(platforms.DefaultSpec())
	args := map[string]string{"SOURCE_DATE_EPOCH": strconv.FormatInt(req.Epoch.Unix(), 10)}
	maps.Copy(args, req.Recipe.BuildArgs)
	res, err := dockerfile2llb.Dockerfile2LLB(ctx, text, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs: args, Target: req.Recipe.Target,
			BuildPlatforms:         []ocispecs.Platform{{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}},
			MultiPlatformRequested: len(req.Recipe.Platforms) > 1,
		},
		TargetPlatform: &target,
		MetaResolver:   anyImage{},
	})
	if err != nil {
		return nil
	}
	def, err := res.State.Marshal(ctx)
	if err != nil {
		return nil
	}
	for _, raw := range def.Def {
		var op pb.Op
		if op.UnmarshalVT(raw) == nil && op.GetSource() != nil {
			ops = append(ops, op.GetSource())
		}
	}
	return ops
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

// ignored returns the patterns of the ignore file that BuildKit reads; none if it cannot be
// read, which BuildKit will explain.
func ignored(tree, seen *sourceTree, dockerfile string) []string {
	for _, file := range []struct {
		in   *sourceTree
		name string
	}{{tree, dockerfile + ".dockerignore"}, {seen, ".dockerignore"}} {
		text, err := readFile(file.in.root, file.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		patterns, perr := ignorefile.ReadAll(bytes.NewReader(text))
		if err != nil || perr != nil {
			return nil
		}
		return patterns
	}
	return nil
}

// checkNames returns an error for the first name that BuildKit cannot express among those
// that it would be sent.
func (t *sourceTree) checkNames(ctx context.Context, follow, exclude []string) error {
	sent, err := fsutil.NewFilterFS(t, &fsutil.FilterOpt{FollowPaths: follow, ExcludePatterns: exclude})
	if err != nil {
		return nil // BuildKit will explain it
	}
	var odd error
	sent.Walk(ctx, "/", func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*types.Stat); ok && isOdd(st) {
			odd = &builder.Error{Step: "source", Err: fmt.Errorf("the build reads %s: BuildKit cannot express names that are not UTF-8; rename it, or list it in .dockerignore", quoteOdd(st))}
			return fs.SkipAll
		}
		return nil
	})
	return odd
}
