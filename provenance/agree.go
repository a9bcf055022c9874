package provenance

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/colophon-build/colophon/attest"
)

// claim is one thing that a provenance and its signer's certificate both say.
type claim struct{ what, says, certificate string }

// check fails where the two differ, also where only one says anything.
func (c claim) check() error {
	if c.says != c.certificate {
		return fmt.Errorf("%s: the provenance says %q, its signer's certificate %q", c.what, c.says, c.certificate)
	}
	return nil
}

// agree compares claims. A claim of which the certificate says nothing is not
// compared: certificates from before 2023 leave some out.
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

// sourceAmong fails unless the dependencies name the source, and all that do
// name it at the commit.
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

// commitOf returns the commit that a descriptor names as gitCommit or, as older
// builders do, as sha1; empty where the two differ.
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

var commitRE = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
