package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

type copyOptions struct {
	policy  string
	output  output
	timeout time.Duration
}

func newCopyCommand() *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:        "copy IMAGE DESTINATION",
		SuggestFor: []string{"promote", "push", "save"},
		Short:      "copy an image and everything attached to it between registries, layouts and archives",
		Long: `Copy copies an image, and everything attached to it and to its platforms: proofs,
SBOMs, signatures, and what is attached to those in turn. The digest stays, so that what
proves the image here proves it there. Copy checks the digests of what it copies.

DESTINATION is HOST/NAME[:TAG], or the path of an OCI layout, which copy creates if
needed, or of an archive of a layout (a name that ends with .tar; skopeo and podman
call it oci-archive:FILE:TAG). Without TAG, the copy gets the tag of IMAGE. To
registries, copy logs in with the credentials of docker and podman; without these, to
that of the platform that release uses with the platform's token.

With --policy, copy verifies the image first, as "colophon verify" does, and copies
nothing if it is not accepted: this is how an image is promoted from one registry to
the next. Without it, copy verifies nothing.

If copy is interrupted, the same command goes on where it stopped. What is attached
to an image and cannot be copied is named, and left out.

Exit codes: 0 copied, 3 rejected by the policy, 4 undecided, 2 usage error, 1 failure.`,
		Example: `  colophon copy 127.0.0.1:8080/team/app:v1.2.0 registry.example.com/team/app
  colophon copy staging.example.com/team/app:v1.2.0 prod.example.com/team/app --policy prod.json
  colophon copy 127.0.0.1:8080/team/app:v1.2.0 ./app          # an OCI layout
  colophon copy 127.0.0.1:8080/team/app:v1.2.0 ./app.tar`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return runCopy(ctx, cmd, args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "policy `FILE` that must accept the image before it is copied")
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "COPY@DIGEST, and no progress")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "give up after this long")
	return cmd
}

// copied is the answer of copy.
type copied struct {
	Image   string   `json:"image"`  // DESTINATION with its tag
	Digest  string   `json:"digest"` // sha256:HEX
	Tag     string   `json:"tag,omitempty"`
	LeftOut []string `json:"leftOut,omitempty"`
}

func runCopy(ctx context.Context, cmd *cobra.Command, image, destination string, o copyOptions) error {
	if err := o.output.fits(copied{}); err != nil {
		return err
	}
	to, err := oci.ParseReference(destination)
	switch {
	case err != nil:
		return usageError("", "%v", err)
	case to.Digest != "":
		return usageError("the copy has the digest of the image", "destination %q: expected no digest", destination)
	}
	ref, src, err := openImage(image)
	if err != nil {
		return err
	}
	if l, ok := src.(*oci.Layout); ok {
		defer l.Close()
	}
	d, err := src.Resolve(ctx, ref.Identifier())
	if errors.Is(err, oci.ErrNotFound) && ref.Identifier() == "" {
		return &exitError{code: exitFailure, msg: src.Name() + " has no image"}
	} else if errors.Is(err, oci.ErrNotFound) {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("%s has no %q", src.Name(), ref.Identifier())}
	} else if err != nil {
		return err
	}
	if o.policy != "" {
		if err := o.demand(ctx, cmd, image, ref, d); err != nil {
			return err
		}
	}
	report, stop := o.report(cmd.ErrOrStderr())
	done := copied{Digest: d.Digest.String(), Tag: to.Tag}
	switch {
	case done.Tag != "":
	case ref.Tag != "":
		done.Tag = ref.Tag
	case ref.Digest == "" && ref.Dir == "":
		done.Tag = ref.Identifier()
	case to.Dir != "":
		done.Tag = d.Digest.Hex // an entry of a layout needs a name
	}
	left, err := copyTo(ctx, report, to, src, d, done.Tag)
	stop()
	for _, l := range left {
		done.LeftOut = append(done.LeftOut, printable.Text(l.Error()))
		if o.output.text() || o.output.quiet { // the other forms have it in the answer
			fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s\n", printable.Text(l.Error()))
		}
	}
	if err != nil {
		return err
	}
	to.Tag = done.Tag
	done.Image = to.String()
	switch {
	case o.output.quiet:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), printable.Text(withDigest(done.Image, done.Digest)))
		return err
	case !o.output.text():
		return o.output.print(cmd.OutOrStdout(), done)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s@%s\n", printable.Text(done.Image), done.Digest)
	return err
}

// demand returns an error unless the policy accepts the image: the digest that is copied,
// whatever the tag names by then.
func (o copyOptions) demand(ctx context.Context, cmd *cobra.Command, image string, ref oci.Reference, d v1.Descriptor) error {
	v := verifyOptions{policy: o.policy, now: time.Now()}
	var opts verify.Options
	var err error
	if opts.Policy, _, err = v.load(); err != nil {
		return err
	}
	empty, err := loadTrust(&opts)
	if err != nil {
		return err
	}
	if err := v.source.configure(&opts, v.now, v.rules.policies()...); err != nil {
		return err
	}
	warnStale(cmd.ErrOrStderr(), opts, v.now)
	if err := loadLists(ctx, &opts, v.now, false); err != nil {
		return err
	}
	ref.Digest = d.Digest.String()
	stop := waiting(cmd.ErrOrStderr(), "verifying "+image)
	found, err := v.image(ctx, image, ref, opts)
	stop()
	if err != nil {
		return err
	}
	found.Image = image
	if empty {
		found.Hint = hintTrust
	}
	switch {
	case found.Outcome == verify.Accepted:
	case o.output.quiet:
		printQuiet(io.Discard, cmd.ErrOrStderr(), found)
	default: // no answer of copy, which is the copy
		printVerdict(cmd.ErrOrStderr(), found, nil)
	}
	return exitFor(found.Outcome)
}

// report returns what to call for each copied blob: a terminal shows how many there are,
// how much that is, and how long it has taken; elsewhere, each blob is a line.
func (o copyOptions) report(w io.Writer) (copied func(v1.Descriptor), stop func()) {
	var mu sync.Mutex
	f, ok := w.(*os.File)
	switch {
	case !o.output.text():
		return func(v1.Descriptor) {}, func() {}
	case !ok || !isTerminal(f):
		return func(blob v1.Descriptor) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(w, "  %s  %s\n", blob.Digest.Hex[:12], size(blob.Size))
		}, func() {}
	}
	start := time.Now()
	blobs, bytes := 0, int64(0)
	r := newRegion(f, 0, func(now time.Time, _ int) []string {
		mu.Lock()
		defer mu.Unlock()
		return []string{fmt.Sprintf("%s %s  %d blobs copied, %s", paint(f, yellow, spinner(now)), seconds(now.Sub(start)), blobs, size(bytes))}
	})
	go r.run(r.stop)
	return func(blob v1.Descriptor) {
		mu.Lock()
		defer mu.Unlock()
		blobs, bytes = blobs+1, bytes+blob.Size
	}, r.close
}

// copyTo copies the image d with all that is attached, and then gives it its tag.
func copyTo(ctx context.Context, report func(v1.Descriptor), to oci.Reference, src oci.Source, d v1.Descriptor, tag string) (left []error, err error) {
	if archive := to.Dir; strings.HasSuffix(archive, ".tar") {
		return copyToArchive(ctx, report, archive, src, d, tag)
	}
	var dst oci.Target
	if to.Dir != "" {
		l, err := oci.CreateLayout(to.Dir)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		dst = l
	} else if dst, err = oci.OpenRegistry(to.Repository, pushOptions(to.Repository, platformHere())); err != nil {
		return nil, err
	}
	left, err = copyInto(ctx, report, dst, src, d, tag)
	if to.Dir == "" && errors.Is(err, oci.ErrDenied) {
		host, _, _ := strings.Cut(to.Repository, "/")
		err = &exitError{code: exitFailure, msg: err.Error(), hint: "log in to the registry, with a token that may push there: docker login " + printable.Text(host)}
	}
	return left, err
}

// pushOptions returns how to log in to the registry of a repository: with the credentials of
// docker and podman, and without these with the token of the platform that release uses, if
// it is that platform's registry.
func pushOptions(repository string, platform *api.ClientConfig) oci.RegistryOptions {
	if platform == nil {
		return oci.RegistryOptions{}
	}
	host, _, _ := strings.Cut(repository, "/")
	if host != hostOf(platform) {
		return oci.RegistryOptions{}
	}
	return oci.RegistryOptions{
		Keychain: authn.NewMultiKeychain(authn.DefaultKeychain, tokenFor{host, platform.Token}),
		TLS:      strings.HasPrefix(platform.URL, "https:"),
	}
}

// tokenFor has the token for one registry.
type tokenFor struct{ host, token string }

func (t tokenFor) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() != t.host {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{Username: "colophon", Password: t.token}), nil
}

func copyInto(ctx context.Context, report func(v1.Descriptor), dst oci.Target, src oci.Source, d v1.Descriptor, tag string) (left []error, err error) {
	left, err = oci.Save(ctx, dst, src, d, tag, report)
	if errors.Is(err, oci.ErrTagExists) {
		err = &exitError{code: exitFailure, msg: err.Error(), hint: "choose another tag: DESTINATION:TAG"}
	}
	return left, err
}

// copyToArchive writes the archive under its name only when it is whole.
func copyToArchive(ctx context.Context, report func(v1.Descriptor), archive string, src oci.Source, d v1.Descriptor, tag string) (left []error, err error) {
	work, err := os.MkdirTemp(filepath.Dir(archive), ".copy-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	layout := filepath.Join(work, "layout")
	dst, err := oci.CreateScratch(layout)
	if err != nil {
		return nil, err
	}
	defer dst.Close()
	if left, err = copyInto(ctx, report, dst, src, d, tag); err != nil {
		return left, err
	}
	f, err := os.OpenFile(filepath.Join(work, "archive"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return left, err
	}
	err = errors.Join(oci.WriteArchive(ctx, f, layout), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), archive)
	}
	return left, err
}
