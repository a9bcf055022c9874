package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
)

// checkSources returns an error if a build for the platform cannot succeed because of what
// its Dockerfile adds or copies: a git repository that is not in req.Added, or a file of the
// context whose name BuildKit cannot express. It knows what depends on neither the environment
// nor the triggers of a base image; the rest fails in the build, which says the same.
func checkSources(ctx context.Context, text []byte, req builder.Request, platform string, tree, seen *sourceTree) error {
	d := dockerfile.Dockerfile{Text: text, Recipe: req.Recipe, Epoch: req.Epoch}
	for _, op := range d.Sources(ctx, platform) {
		switch {
		case dockerfile.IsGit(op):
			remote := op.Attrs[pb.AttrFullRemoteURL]
			if !slices.ContainsFunc(req.Added, func(a builder.Added) bool { return a.Name == op.Identifier && a.Remote == remote }) {
				return &builder.Error{Step: "ADD " + credential.URL(remote), Err: errors.New(noGit)}
			}
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

// checkSecrets returns an error if a step on the platform requires a secret or an ssh agent.
// The log says which others are missing, because a step that needs one fails by itself.
func checkSecrets(ctx context.Context, text []byte, req builder.Request, platform string) error {
	d := dockerfile.Dockerfile{Text: text, Recipe: req.Recipe, Epoch: req.Epoch}
	for _, s := range d.Secrets(ctx, platform) {
		step := "RUN --mount=" + s.Mount
		if s.Required {
			return &builder.Error{Step: step, Err: errors.New(noSecret)}
		}
		if req.Log != nil {
			req.Log(builder.Event{Step: step, Line: noSecret})
		}
	}
	return nil
}

const noSecret = "builds get no secrets and no ssh agent: leave the mount out and fetch over https without logging in. For a private host, whoever runs the platform " +
	"adds a credential for it to the platform's configuration (docs/configuration.md, Credentials), and the build's gateway adds it to the requests, outside of the build"

const noGit = "the address of a git repository must follow from the Dockerfile and its arguments, because the platform fetches it before the build; or make the repository a submodule"

// added makes BuildKit read each repository of req.Added from a local mount that has its
// files. The caller closes the roots, even after an error.
func added(opt *client.SolveOpt, req builder.Request) (roots []*os.Root, err error) {
	opt.SourcePolicy = &spb.Policy{Version: 1}
	for i, a := range req.Added {
		repository, err := os.OpenRoot(a.Tree)
		if err != nil {
			return roots, err
		}
		root, err := builder.OpenContext(repository, a.Dir)
		repository.Close()
		if err != nil {
			return roots, &builder.Error{Step: "ADD " + credential.URL(a.Remote), Err: err}
		}
		roots = append(roots, root)
		mount := fmt.Sprintf("added-%d", i)
		opt.LocalMounts[mount] = newSourceTree(root, req.Epoch)
		opt.SourcePolicy.Rules = append(opt.SourcePolicy.Rules, &spb.Rule{
			Action: spb.PolicyAction_CONVERT,
			Selector: &spb.Selector{Identifier: a.Name, MatchType: spb.MatchType_EXACT, Constraints: []*spb.AttrConstraint{
				{Key: pb.AttrFullRemoteURL, Value: a.Remote, Condition: spb.AttrMatch_EQUAL},
			}},
			Updates: &spb.Update{Identifier: "local://" + mount},
		})
	}
	return roots, nil
}

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
