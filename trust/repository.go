package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Targets are the names under which a TUF repository may hold a trust root,
// first choice first: a platform's trust document, a Sigstore trusted root.
var Targets = []string{"colophon.json", "trusted_root.json"}

// Repository is what a TUF repository (TUF specification 1.0) said when it was
// last asked, whole: the root metadata that was pinned, what that led to, and
// the trust root at the end of it. It proves itself again at each reading, so
// that it can be kept in one file and taken to machines without a network.
type Repository struct {
	URL       string   `json:"url"`       // of the metadata; the targets are below it
	Roots     [][]byte `json:"roots"`     // root.json in order of version; the first is the one that was pinned
	Timestamp []byte   `json:"timestamp"` // timestamp.json
	Snapshot  []byte   `json:"snapshot"`  // snapshot.json
	Targets   []byte   `json:"targets"`   // targets.json
	Target    string   `json:"target"`    // name of the trust root, one of Targets
	Content   []byte   `json:"content"`   // its bytes

	version int64 // of the timestamp: what is newer has a higher one
}

// Pin is the fingerprint of the root metadata that was pinned.
func (r *Repository) Pin() string {
	sum := sha256.Sum256(r.Roots[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Encode is what Parse reads.
func (r *Repository) Encode() ([]byte, error) {
	raw, err := json.Marshal(r)
	if err == nil && len(raw) > limits.TrustRepository {
		err = fmt.Errorf("the TUF repository's metadata takes %d bytes, at most %d are taken", len(raw), limits.TrustRepository)
	}
	return raw, err
}

// parseRepository reads a Repository and the trust root in it.
func parseRepository(raw []byte) (*Root, error) {
	var repo Repository
	if err := strict.UnmarshalKnown(raw, limits.TrustRepository, &repo); err != nil {
		return nil, err
	}
	expires, err := repo.verify()
	if err != nil {
		return nil, err
	}
	r, err := parseDocument(repo.Content)
	if err != nil {
		return nil, err
	}
	r.Raw, r.Repository, r.Expires = append([]byte(nil), raw...), &repo, expires
	return r, nil
}

// verify holds everything to the pinned root, and returns when the first of the
// metadata expires. That it has expired is no failure here: who is offline for
// long decides by policy what that means.
func (r *Repository) verify() (expires time.Time, err error) {
	if len(r.Roots) == 0 {
		return expires, errors.New("it has no root metadata")
	}
	set, err := trustedmetadata.New(r.Roots[0])
	if err != nil {
		return expires, fmt.Errorf("root metadata: %w", err)
	}
	set.RefTime = time.Time{} // before everything expires
	for _, raw := range r.Roots[1:] {
		if _, err := set.UpdateRoot(raw); err != nil {
			return expires, fmt.Errorf("root metadata: %w", err)
		}
	}
	if _, err := set.UpdateTimestamp(r.Timestamp); err != nil {
		return expires, fmt.Errorf("timestamp metadata: %w", err)
	}
	if _, err := set.UpdateSnapshot(r.Snapshot, false); err != nil {
		return expires, fmt.Errorf("snapshot metadata: %w", err)
	}
	targets, err := set.UpdateTargets(r.Targets)
	if err != nil {
		return expires, fmt.Errorf("targets metadata: %w", err)
	}
	target := targets.Signed.Targets[r.Target]
	if target == nil {
		return expires, fmt.Errorf("targets metadata: it has no %q", r.Target)
	}
	if err := checkTarget(target, r.Content); err != nil {
		return expires, fmt.Errorf("target %q: %w", r.Target, err)
	}
	r.version = set.Timestamp.Signed.Version
	for _, t := range []time.Time{set.Root.Signed.Expires, set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, targets.Signed.Expires} {
		if expires.IsZero() || t.Before(expires) {
			expires = t
		}
	}
	return expires.UTC(), nil
}

// checkTarget wants a SHA-256 beside what TUF asks for: with no hash named the
// library would be content with the length.
func checkTarget(target *metadata.TargetFiles, content []byte) error {
	if len(target.Hashes["sha256"]) != sha256.Size {
		return errors.New("the metadata gives no sha256 of it")
	}
	return target.VerifyLengthHashes(content)
}

// Stale says that the metadata of r's TUF repository has expired at a time: the
// repository may have withdrawn a key since, and nobody asked it.
func (r *Root) Stale(at time.Time) bool { return !r.Expires.IsZero() && at.After(r.Expires) }
