// Package source turns a git ref into a commit and a commit into a tree, with
// git itself, locked down: no hooks, no system or user configuration, no
// prompt, an allow-list of protocols, and never the working directory.
package source

import "time"

// Request names what to fetch. Exactly what Ref is ("v1.2.0", "main",
// "refs/tags/v1.2.0", a full commit id) is found out by asking the repository.
type Request struct {
	URI            string // https://, ssh://, or file:///absolute/path
	Ref            string
	Commit         string // if set, Ref must still lead to this commit (hex)
	AllowedSigners []byte // ssh allowed_signers file; may be nil
	Keyring        []byte // armored OpenPGP public keys; may be nil
	// UploadPack is the command that answers for local repositories in place of
	// git's own upload-pack; empty where this process may read them itself. It
	// gets the repository's path as its last argument and speaks git's protocol.
	UploadPack string
}

// Commit is what a ref led to. Hex ids are in the repository's object format.
type Commit struct {
	URI        string      `json:"uri"`           // Canonical(Request.URI)
	Ref        string      `json:"ref,omitempty"` // full ref name; empty where Ref was a commit id
	ID         string      `json:"commit"`        // hex
	Tree       string      `json:"tree"`          // hex
	Tag        string      `json:"tag,omitempty"` // hex id of the annotated tag object, if any
	Time       time.Time   `json:"time"`          // committer time, UTC
	Signature  Signature   `json:"signature"`     // of the tag if it is signed, else of the commit
	Submodules []Submodule `json:"submodules,omitempty"`
}

// SignatureStatus says how far the signature of a git object got. It is empty
// only where nobody looked.
type SignatureStatus string

const (
	Unsigned   SignatureStatus = "unsigned"
	Unverified SignatureStatus = "unverified" // signed, but no key was given, or the signer's is not among them
	Verified   SignatureStatus = "verified"
	Bad        SignatureStatus = "bad" // the signature does not match the object
)

// Signature says who signed a git object, and whether that was checked.
type Signature struct {
	Object string          `json:"object,omitempty"` // "tag" or "commit"
	Kind   string          `json:"kind,omitempty"`   // "ssh", "openpgp" or "x509"
	Key    string          `json:"key,omitempty"`    // fingerprint
	Signer string          `json:"signer,omitempty"` // principal or user id, only where verified
	Status SignatureStatus `json:"status"`
	Reason string          `json:"reason,omitempty"` // why it is not verified, where there is more to say
}

// Submodule is a submodule at the commit its parent pins.
type Submodule struct {
	Path   string `json:"path"`
	URI    string `json:"uri"`
	Commit string `json:"commit"`
}

// IsCommitID tells a full commit id (40 or 64 digits of lower-case hex) from a
// name. What looks like one is always taken for one.
func IsCommitID(ref string) bool { return isID(ref) }
