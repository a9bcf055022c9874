package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Targets returns the target names under which a TUF repository may hold a trust
// root, the preferred one first: a platform's trust document, a Sigstore trusted
// root.
func Targets() []string { return []string{"colophon.json", "trusted_root.json"} }

// SigningConfigs returns the target names under which a TUF repository may hold a Sigstore
// signing config (protobuf-specs v0.2), the preferred one first. The public Sigstore instance
// names its Rekor v2 log in a target of its own.
func SigningConfigs() []string {
	return []string{"signing_config_rekor_v2.v0.2.json", "signing_config.v0.2.json"}
}

// Repository is a copy of what a TUF repository served (TUF specification 1.0): the
// pinned root metadata, all metadata from there to the trust root, the trust root
// itself, and a signing config if there is one. Parse verifies all of it each time, so that one file holds all of it
// and works on machines without a network.
type Repository struct {
	URL       string   `json:"url"`               // base URL of the metadata; targets are below it
	Roots     [][]byte `json:"roots"`             // N.root.json, ordered by version; the first is the pinned one
	Timestamp []byte   `json:"timestamp"`         // timestamp.json
	Snapshot  []byte   `json:"snapshot"`          // snapshot.json
	Targets   []byte   `json:"targets"`           // targets.json
	Target    string   `json:"target"`            // target name of the trust root: one of Targets()
	Content   []byte   `json:"content"`           // the trust root: a Document or a plain trusted root
	Issuers   []string `json:"issuers,omitempty"` // for a plain trusted root: the issuers that the person who pinned it named

	// SigningConfig is a signing config, which package sign reads; empty if the repository has none.
	SigningConfig       []byte `json:"signingConfig,omitempty"`
	SigningConfigTarget string `json:"signingConfigTarget,omitempty"` // its target name: one of SigningConfigs()

	// Refreshed is when this machine last got all of it from the repository, by its own
	// clock; zero if that is not known. Nobody signs it.
	Refreshed time.Time `json:"refreshed,omitzero"`

	version int64 // of Timestamp; newer metadata has a higher version
}

// Pin returns the fingerprint, sha256:hex, of the pinned root metadata.
func (r *Repository) Pin() string {
	sum := sha256.Sum256(r.Roots[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// older reports whether r is older than have, which begins with the same root metadata: it has less of that, or its
// timestamp is of a lower version. New keys may count from the beginning (TUF specification 5.3.11), because
// whoever had the old ones may have used up the versions.
func (r *Repository) older(have *Repository) bool {
	if len(r.Roots) < len(have.Roots) || r.version >= have.version {
		return len(r.Roots) < len(have.Roots)
	}
	root, err := metadata.Root().FromBytes(r.Roots[len(r.Roots)-1])
	if err != nil {
		return true
	}
	before, err := metadata.Timestamp().FromBytes(have.Timestamp)
	return err != nil || root.VerifyDelegate(metadata.TIMESTAMP, before) == nil
}

// Encode returns r as JSON, which Parse reads. It fails if that exceeds the size
// limit of Parse, 16 MiB.
func (r *Repository) Encode() ([]byte, error) {
	raw, err := json.Marshal(r)
	if err == nil && len(raw) > limits.TrustRepository {
		err = fmt.Errorf("TUF repository: got %d bytes of metadata, want at most %d", len(raw), limits.TrustRepository)
	}
	return raw, err
}

// parseRepository reads and verifies a Repository and the trust root in it.
func parseRepository(raw []byte) (*Root, error) {
	var repo Repository
	if err := strict.UnmarshalKnown(raw, limits.TrustRepository, &repo); err != nil {
		return nil, err
	}
	expires, err := repo.verify()
	if err != nil {
		return nil, err
	}
	r, err := parseDocument(repo.Content, repo.Issuers)
	if err != nil {
		return nil, err
	}
	r.Raw, r.Repository, r.Expires = append([]byte(nil), raw...), &repo, expires
	return r, nil
}

// verify checks all metadata and the trust root against the pinned root metadata,
// and returns when the first of the metadata expires. It accepts expired metadata:
// a policy decides what a machine that was offline for long may do with it.
func (r *Repository) verify() (expires time.Time, err error) {
	if len(r.Roots) == 0 {
		return expires, errors.New("root metadata is missing")
	}
	set, err := trustedmetadata.New(r.Roots[0])
	if err != nil {
		return expires, fmt.Errorf("root metadata: %w", err)
	}
	set.RefTime = time.Time{} // nothing expires before this time
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
	if err := checkTarget(targets.Signed, r.Target, r.Content); err != nil {
		return expires, err
	}
	if r.SigningConfigTarget != "" || len(r.SigningConfig) > 0 {
		if !slices.Contains(SigningConfigs(), r.SigningConfigTarget) {
			return expires, fmt.Errorf("target %q: want one of the signing configs %q", r.SigningConfigTarget, SigningConfigs())
		}
		if err := checkTarget(targets.Signed, r.SigningConfigTarget, r.SigningConfig); err != nil {
			return expires, err
		}
	}
	r.version = set.Timestamp.Signed.Version
	for _, t := range []time.Time{set.Root.Signed.Expires, set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, targets.Signed.Expires} {
		if expires.IsZero() || t.Before(expires) {
			expires = t
		}
	}
	return expires.UTC(), nil
}

// checkTarget verifies length and hashes of a target. It requires a SHA-256: without
// any hash in the metadata, the library would check only the length.
func checkTarget(targets metadata.TargetsType, name string, content []byte) error {
	target := targets.Targets[name]
	if target == nil {
		return fmt.Errorf("targets metadata: target %q is missing", name)
	}
	if len(target.Hashes["sha256"]) != sha256.Size {
		return fmt.Errorf("target %q: the metadata has no sha256 of it", name)
	}
	if err := target.VerifyLengthHashes(content); err != nil {
		return fmt.Errorf("target %q: %w", name, err)
	}
	return nil
}

// Stale reports whether the TUF metadata of r has expired at the given time. Since
// it expired, the repository may have revoked a key in r. Refresh it with package
// trust/tuf.
func (r *Root) Stale(at time.Time) bool { return !r.Expires.IsZero() && at.After(r.Expires) }

// RefreshedWithin reports whether r came from its TUF repository at most age before the given
// time. It is false if that is not known, as of a root whose bytes are pinned.
func (r *Root) RefreshedWithin(age time.Duration, at time.Time) bool {
	if r.Repository == nil || r.Repository.Refreshed.IsZero() {
		return false
	}
	past := at.Sub(r.Repository.Refreshed)
	return past >= 0 && past <= age
}
