package provenance

import (
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// claim is one value as the provenance and as the signer's certificate give it.
type claim struct{ what, says, certificate string }

// check fails if the two values differ, or only one of them is there.
func (c claim) check() error {
	if c.says != c.certificate {
		return fmt.Errorf("%s: the provenance says %q, its signer's certificate says %q", c.what, c.says, c.certificate)
	}
	return nil
}

// agree compares claims. It skips those that the certificate does not have:
// certificates from before 2023 lack some.
func agree(claims []claim) error {
	for _, c := range claims {
		if c.certificate == "" {
			continue
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

// sourceAmong fails unless a dependency is the source, and each such dependency has
// the commit.
func sourceAmong(deps []attest.ResourceDescriptor, uri, commit string) error {
	found := false
	for _, d := range deps {
		if d.URI != uri {
			continue
		}
		if got := commitOf(d); got != commit {
			return fmt.Errorf("dependency %s: got commit %q, want %q", uri, got, commit)
		}
		found = true
	}
	if !found {
		return errors.New("the source is not among the dependencies: want " + uri)
	}
	return nil
}

// commitOf returns the commit in a descriptor's digests: gitCommit or, of older
// builders, sha1. It returns "" if the two differ.
func commitOf(d attest.ResourceDescriptor) string {
	now, old := d.Digest["gitCommit"], d.Digest["sha1"]
	if now != "" && old != "" && now != old {
		return ""
	}
	if now == "" {
		return old
	}
	return now
}

var commitRE = lazyregexp.New(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
