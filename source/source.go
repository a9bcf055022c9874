// Package source fetches the commit that a git ref points to, exports its files, and
// later asks whether the repository still has it.
//
//   - Fetch resolves a ref and fetches its commit with submodules. Repo.Export writes
//     the files.
//   - Lookup asks a repository what became of a commit and its ref.
//   - Canonical brings repository addresses into one form, so that they can be compared.
//   - Signature says who signed a tag or commit: with ssh, OpenPGP or gitsign.
//   - TreeHash checks that files are those of a commit.
//
// The package runs the git command (2.39.4 or later) without hooks, without system and
// user configuration, without prompts, and with only the protocol of the address. It
// never reads a working directory, except in CheckClean. It recomputes the id of every
// object that it reads.
package source

import (
	"cmp"
	"fmt"
	"time"
)

// Request says what to fetch.
type Request struct {
	URI string // https://HOST/PATH, ssh://HOST/PATH, file:///PATH; see Canonical for other spellings
	// From is the address of the repository whose content names URI, as the parent of a
	// submodule does; empty if a person chose URI. A repository of the network may not name
	// one of this machine (file, or loopback).
	From           string
	Ref            string // "v1.2.0", "main", "refs/tags/v1.2.0", "HEAD" or a full commit id; a short name means a tag or a branch, other refs are refused
	Commit         string // if not empty: the full id of the commit that Ref must point to
	AllowedSigners []byte // ssh allowed_signers file; may be nil
	Keyring        []byte // armored OpenPGP public keys; may be nil
	// UploadPack is a command that replaces git's upload-pack for local
	// repositories, for processes that may not read them; see ServeLocal. It gets the
	// repository's path as its last argument. If it is empty, git reads the repository.
	UploadPack string
	// Alone leaves out submodules: no address is asked but URI.
	Alone bool
	// Credential authenticates to the repository, and to its submodules in the same
	// scope; may be nil.
	Credential *Credential
}

// Commit is the commit that a ref points to. Ids are hex, 40 digits in SHA-1
// repositories and 64 in SHA-256 repositories.
type Commit struct {
	URI        string      `json:"uri"`              // Canonical(Request.URI)
	Ref        string      `json:"ref,omitempty"`    // full name of a branch or tag; empty if Request.Ref was a commit id
	Within     string      `json:"within,omitempty"` // if Ref is empty: full name of a branch or tag whose history has the commit
	ID         string      `json:"commit"`           // id of the commit
	Tree       string      `json:"tree"`             // id of its tree
	Tag        string      `json:"tag,omitempty"`    // id of the annotated tag object, if any
	Time       time.Time   `json:"time"`             // committer time, UTC
	Signature  Signature   `json:"signature"`        // of the tag if it is signed, otherwise of the commit
	Submodules []Submodule `json:"submodules,omitempty"`
}

// SignatureStatus says whether the signature of a git object is valid. It is empty only
// if the signature was not checked.
type SignatureStatus string

const (
	Unsigned   SignatureStatus = "unsigned"
	Unverified SignatureStatus = "unverified" // signed, but not by one of the given keys
	Verified   SignatureStatus = "verified"
	Bad        SignatureStatus = "bad" // the signature does not match the object
)

// Signature says who signed a git object. The name of the signer is the word of
// whoever brought the file of signers: another file gives the same key another name.
type Signature struct {
	Object  string          `json:"object,omitempty"`  // "tag" or "commit"
	Kind    string          `json:"kind,omitempty"`    // "ssh", "openpgp" or "x509"
	Key     string          `json:"key,omitempty"`     // fingerprint of the key or certificate
	Signer  string          `json:"signer,omitempty"`  // principal or user id; only if Status is Verified
	Signers string          `json:"signers,omitempty"` // sha256:HEX of the file that gave the key this name: allowed_signers or keyring; empty for a certificate
	Status  SignatureStatus `json:"status"`
	Reason  string          `json:"reason,omitempty"` // more about why it is not Verified; may be empty
}

// NamedBy returns who signed, for people, if whose file of signers named the key:
// "tag signed by key SHA256:…, named release@example.com by the requester".
func (s Signature) NamedBy(whose string) string {
	return fmt.Sprintf("%s signed by key %s, named %s by %s", s.Object, cmp.Or(s.Key, "unknown"), s.Signer, whose)
}

// Submodule is a submodule, with the commit that its parent's tree names.
type Submodule struct {
	Path   string `json:"path"`   // in the outermost tree, with slashes
	URI    string `json:"uri"`    // canonical address
	Commit string `json:"commit"` // full commit id
}

// IsCommitID reports whether ref is a full commit id: 40 or 64 digits of lower-case
// hex. Fetch never treats such a text as the name of a branch or tag.
func IsCommitID(ref string) bool { return isID(ref) }
