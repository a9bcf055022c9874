package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/contenttrust"
	"github.com/colophon-build/colophon/policy"
)

// contentTrustOptions say where to look for Docker Content Trust.
type contentTrustOptions struct {
	server string // URL; empty: no server is asked
}

func (o *contentTrustOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.server, "notary-server", "", "ask the Notary server at `URL` what Docker Content Trust says, as "+contenttrust.DefaultServer+"; otherwise only this machine's ~/.docker/trust is read")
}

// inspectedTrust is what Docker Content Trust says about an image. Nothing of it is verified.
type inspectedTrust struct {
	Repository string   `json:"repository"`       // as docker names it
	Where      string   `json:"where"`            // directory or URL
	Expires    string   `json:"expires"`          // of the metadata
	Tag        string   `json:"tag,omitempty"`    // the tag that was asked for
	Digest     string   `json:"digest,omitempty"` // of that tag; empty if it has no signature
	Tags       []string `json:"tags,omitempty"`   // tags with the digest of this image
	Signed     int      `json:"signed"`           // number of all tags with a signature
}

// find returns what Docker Content Trust says about an image in a registry.
func (o contentTrustOptions) find(ctx context.Context, ref oci.Reference, digest string) (all []inspectedTrust, err error) {
	if ref.Dir != "" {
		return nil, nil
	}
	named, err := policy.ParseImage(ref.String())
	if err != nil {
		return nil, err
	}
	repository := contenttrust.Repository(named.Name)
	var found []*contenttrust.Found
	if dir := dockerTrust(); dir != "" {
		// What cannot be read here says nothing, and nobody asked for it.
		if f, err := contenttrust.Local(dir, repository); err == nil && f != nil {
			found = append(found, f)
		}
	}
	if o.server != "" {
		f, err := contenttrust.Ask(ctx, http.DefaultTransport, o.server, repository)
		if err != nil {
			return nil, &exitError{code: exitFailure, msg: err.Error()}
		}
		if f != nil {
			found = append(found, f)
		}
	}
	for _, f := range found {
		t := inspectedTrust{Repository: f.Repository, Where: f.Where, Expires: f.Expires.Format(time.RFC3339), Signed: len(f.Tags)}
		if ref.Digest == "" {
			t.Tag, t.Digest = ref.Identifier(), f.Tags[ref.Identifier()]
		}
		for tag, is := range f.Tags {
			if is == digest {
				t.Tags = append(t.Tags, tag)
			}
		}
		slices.Sort(t.Tags)
		all = append(all, t)
	}
	return all, nil
}

// dockerTrust returns the directory in which docker keeps what it was told about signed tags,
// or "".
func dockerTrust() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "trust")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker", "trust")
}

// line returns what it says about the image, for people.
func (t inspectedTrust) line(digest string) string {
	says := fmt.Sprintf("%d signed tags, and none of them is this image", t.Signed)
	switch {
	case t.Digest == digest && digest != "":
		says = "tag " + t.Tag + " is this image"
	case t.Digest != "":
		says = "tag " + t.Tag + " is ANOTHER image, " + t.Digest
	case len(t.Tags) > 0:
		says = "this image is tag " + t.Tags[0]
	}
	return fmt.Sprintf("Docker Content Trust, not verified: %s; until %s, says %s", says, t.Expires, t.Where)
}

// contentTrustHint says what to do about an image with a signature of Docker Content Trust.
func contentTrustHint(all []inspectedTrust) string {
	if !slices.ContainsFunc(all, func(t inspectedTrust) bool { return len(t.Tags) > 0 }) {
		return ""
	}
	return "Docker Content Trust signed it, which registries do not keep, and which ends: sign it anew with `colophon sign`, as docs/policy.md shows"
}
