package pipeline

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// ErrMoved means that the tag of an action points to another commit than it did when it was pinned, or
// is gone. Find out who did that, and why.
var ErrMoved = errors.New("the tag was moved or deleted")

// current returns the pins, after those who can be asked confirmed them, and the tags that nobody confirmed.
func current(ctx context.Context, r *pins.Resolver) (all map[string]pin, unconfirmed []string, err error) {
	if all, err = embedded(); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, now, err := all[name], pins.Target{}, pins.ErrNotAsked
		if r != nil {
			now, err = r.Ref(ctx, name, "refs/tags/"+p.tag) // a branch of this name pins nothing
		}
		switch {
		case errors.Is(err, pins.ErrNoRef):
			return nil, nil, fmt.Errorf("%s %s: expected commit %s, found no such tag: %w", name, p.tag, p.commit, ErrMoved)
		case err != nil:
			unconfirmed = append(unconfirmed, name+" "+p.tag)
		case now.Commit != p.commit:
			return nil, nil, fmt.Errorf("%s %s: expected commit %s, found %s: %w", name, p.tag, p.commit, now.Commit, ErrMoved)
		}
	}
	return all, unconfirmed, nil
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

// PinImage returns how a pipeline names an image: with the digest that its tag has now. No list of
// digests is in the program: an old image would keep its old faults.
func (n *names) PinImage(name string) (string, error) {
	digest, err := n.digest(name)
	if err != nil { // in other words than those of the template
		n.unanswered = fmt.Errorf("%w: which digest has the image %s? %w", ErrUnanswered, name, err)
	}
	return name + "@" + digest, err
}
