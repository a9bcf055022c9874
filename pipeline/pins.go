package pipeline

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/lint/pins"
)

// pin is the commit of a tag of an action.
type pin struct{ commit, tag string }

//go:embed pins.txt
var pinned string

// embedded reads pins.txt. A line is OWNER/NAME COMMIT TAG, or a comment that begins with #.
func embedded() (map[string]pin, error) {
	out := map[string]pin{}
	for line := range strings.Lines(pinned) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 || !pins.IsCommit(f[1]) || !pins.Exact(f[2]) || out[f[0]] != (pin{}) {
			return nil, fmt.Errorf("pins.txt: %q: expected OWNER/NAME COMMIT TAG", strings.TrimSpace(line))
		}
		out[f[0]] = pin{f[1], f[2]}
	}
	return out, nil
}

// ErrMoved means that the tag of an action points to another commit than it did when it was pinned.
// Somebody moved it: find out who, and why.
var ErrMoved = errors.New("the tag was moved")

// current returns the pins, after those who can be asked confirmed them.
func current(ctx context.Context, r *pins.Resolver) (map[string]pin, error) {
	all, err := embedded()
	if err != nil || r == nil {
		return all, err
	}
	for name, p := range all {
		now, err := r.Ref(ctx, name, p.tag)
		if err == nil && now.Commit != p.commit {
			return nil, fmt.Errorf("%s %s: expected commit %s, found %s: %w", name, p.tag, p.commit, now.Commit, ErrMoved)
		}
	}
	return all, nil
}

// Pin returns how a workflow names an action.
func (n *names) Pin(action string) (string, error) {
	p, ok := n.pins[action]
	if !ok {
		return "", fmt.Errorf("pins.txt has no %s", action)
	}
	return action + "@" + p.commit + " # " + p.tag, nil
}

// ErrUnanswered means that nobody said which digest the tag of an image has.
var ErrUnanswered = errors.New("nobody answered")

// gitlabImages are those of Docker Hub's library that the jobs run in: one with git and Docker's
// client, its daemon, and one with curl.
var gitlabImages = []string{"docker:28-git", "docker:28-dind", "buildpack-deps:bookworm-curl"}

// images returns the images by digest, as their registry has them now. No list of them is in the
// program: an old digest would keep their old faults.
func images(ctx context.Context, r *pins.Resolver) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range gitlabImages {
		if r == nil {
			return nil, fmt.Errorf("%w: which digest has the image %s?", ErrUnanswered, name)
		}
		digest, err := r.Digest(ctx, "docker.io/library/"+name)
		if err != nil {
			return nil, fmt.Errorf("%w: which digest has the image %s? %w", ErrUnanswered, name, err)
		}
		out[name] = name + "@" + digest
	}
	return out, nil
}

// PinImage returns how a pipeline names an image.
func (n *names) PinImage(name string) (string, error) {
	pinned, ok := n.images[name]
	if !ok {
		return "", fmt.Errorf("no digest of the image %s was asked for", name)
	}
	return pinned, nil
}
