package source_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/trust"
)

// publicRoot returns the trusted root of the public Sigstore instance.
func publicRoot(t *testing.T) *trust.Root {
	t.Helper()
	raw, err := os.ReadFile("../trust/tuf/sigstore_trusted_root.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// certifiedBy verifies signatures of gitsign like the CLI.
func certifiedBy(r *trust.Root, identity, issuer string) *source.Signers {
	return &source.Signers{Certified: func(raw, signed []byte) (string, error) {
		sum := sha256.Sum256(signed)
		_, err := bundle.Artifact(raw, bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(signed)},
			bundle.Signer{Identity: identity, Issuer: issuer}, r.Material, time.Now())
		return identity, err
	}}
}

// committed puts a commit object into a new repository. Its tree is empty, and its parent
// is missing, like in a shallow clone.
func committed(t *testing.T, raw []byte) (uri, id string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	gittest.Git(t, dir, "init", "-q", "--bare")
	gittest.Git(t, dir, "hash-object", "-w", "-t", "tree", "--stdin")
	id = gittest.In(t, string(raw), dir, "hash-object", "-w", "-t", "commit", "--stdin")
	if err := os.WriteFile(filepath.Join(dir, "shallow"), []byte(id+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "update-ref", "refs/heads/main", id)
	return source.FileURI(dir), id
}

func TestGitsign(t *testing.T) {
	const signer, issuer = "billy@chainguard.dev", "https://accounts.google.com"
	raw, err := os.ReadFile("testdata/gitsign-commit.txt")
	if err != nil {
		t.Fatal(err)
	}
	public := publicRoot(t)
	edit := func(from, to string) []byte {
		out := bytes.Replace(raw, []byte(from), []byte(to), 1)
		if bytes.Equal(out, raw) {
			t.Fatalf("%q is not in the commit", from)
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		commit  []byte
		signers *source.Signers
		status  source.SignatureStatus
		reason  string
	}{
		{"as signed", raw, certifiedBy(public, signer, issuer), source.Verified, ""},
		{"nobody judges it", raw, &source.Signers{}, source.Unverified, ""},
		{"another name", raw, certifiedBy(public, "xbilly@chainguard.dev", issuer), source.Unverified, "signer: got"},
		{"another issuer", raw, certifiedBy(public, signer, issuer+"/"), source.Unverified, "issuer of the signer's certificate"},
		{"another message", edit("asdf", "asdg"), certifiedBy(public, signer, issuer), source.Bad, "message digest"},
		{"another author", edit("author Billy", "author Willy"), certifiedBy(public, signer, issuer), source.Bad, "message digest"},
		{"another tag in the armor", edit("BEGIN SIGNED MESSAGE-----\n MII", "BEGIN SIGNED MESSAGE-----\n MIJ"), certifiedBy(public, signer, issuer), source.Bad, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			uri, id := committed(t, tc.commit)
			got, err := source.Lookup(t.Context(), source.Question{URI: uri, Ref: "refs/heads/main", Commit: id, Signers: tc.signers})
			s := got.Signature
			if err != nil || s.Kind != "x509" || s.Object != "commit" || s.Status != tc.status || !strings.Contains(s.Reason, tc.reason) || (s.Signer != "") != (tc.status == source.Verified) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// If any byte of the signature is changed, it is not verified. The exceptions are bytes
// that nothing depends on: the lengths of wrappers, which repeat that of their content,
// and the signer's name in the checkpoint's note, which the key determines.
func TestTamperedGitsign(t *testing.T) {
	raw, err := os.ReadFile("testdata/gitsign-commit.txt")
	if err != nil {
		t.Fatal(err)
	}
	signers := certifiedBy(publicRoot(t), "billy@chainguard.dev", "https://accounts.google.com")
	start := bytes.Index(raw, []byte("-----BEGIN"))
	end := bytes.Index(raw, []byte("\n\nasdf"))
	block, _ := pem.Decode(bytes.ReplaceAll(raw[start:end+1], []byte("\n "), []byte("\n")))
	if block == nil {
		t.Fatal("no signature")
	}
	name := bytes.LastIndex(block.Bytes, []byte("rekor.sigstore.dev"))
	for i := range block.Bytes {
		der := bytes.Clone(block.Bytes)
		der[i] ^= 1
		armored := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der})
		body := strings.TrimSuffix(strings.ReplaceAll(string(armored), "\n", "\n "), "\n ")
		s, err := source.CheckCommit([]byte(string(raw[:start])+body+string(raw[end:])), signers)
		if err != nil {
			t.Fatal(err)
		}
		free := i == 17 || i == 18 || i >= name && i < name+len("rekor.sigstore.dev")
		if s.Status == source.Verified && !free {
			t.Errorf("byte %d of %d was changed, and it is verified", i, len(block.Bytes))
		}
	}
}

func FuzzGitsign(f *testing.F) {
	raw, err := os.ReadFile("testdata/gitsign-commit.txt")
	if err != nil || len(raw) == 0 {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := source.CheckCommit(raw, &source.Signers{})
		if err == nil && s.Status == source.Verified {
			t.Errorf("verified by nobody: %+v", s)
		}
	})
}
