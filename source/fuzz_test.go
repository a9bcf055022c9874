package source

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzObject: no commit or tag makes the parser panic, and payload and signature are parts
// of the object.
func FuzzObject(f *testing.F) {
	id := strings.Repeat("ab", 20)
	signed, err := os.ReadFile("testdata/gitsign-commit.txt")
	if err != nil {
		f.Fatal(err)
	}
	commit := "tree " + id + "\nparent " + id + "\nauthor A <a@example.com> 1763650800 +0100\ncommitter A <a@example.com> 1763650800 +0100\n\nwords\n"
	tag := "object " + id + "\ntype commit\ntag v1\ntagger A <a@example.com> 1763650800 +0100\n\nwords\n-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
	for kind, seed := range map[string][]byte{"commit": []byte(commit), "tag": []byte(tag)} {
		obj := &object{id: id, kind: kind, headers: map[string]string{}}
		if err := obj.parse(seed); err != nil {
			f.Fatalf("seed %s: %v", kind, err)
		}
		f.Add(seed, kind == "tag")
	}
	f.Add(signed, false)
	f.Fuzz(func(t *testing.T, raw []byte, isTag bool) {
		obj := &object{id: id, kind: "commit", headers: map[string]string{}}
		if isTag {
			obj.kind = "tag"
		}
		if err := obj.parse(raw); err != nil {
			return
		}
		if len(obj.payload)+len(obj.signature) > len(raw) {
			t.Errorf("%d bytes became %d that are signed, and a signature of %d", len(raw), len(obj.payload), len(obj.signature))
		}
		if obj.signature == nil && !obj.malformed && string(obj.payload) != string(raw) && obj.payload != nil {
			t.Error("without a signature, less is signed than there is")
		}
	})
}

// FuzzTree: no entry of an accepted tree escapes its directory or occurs twice.
func FuzzTree(f *testing.F) {
	id := strings.Repeat("ab", 20)
	raw, err := hex.DecodeString(id)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"100644 a\x00", "40000 dir\x00", "100644 .git\x00", "120000 ../a\x00"} {
		f.Add(append([]byte(seed), raw...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := parseTree(raw, id)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range entries {
			path := filepath.Join("/dir", e.name)
			if filepath.Dir(path) != "/dir" || filepath.Base(path) != e.name || strings.EqualFold(e.name, ".git") || seen[e.name] || !isID(e.id) {
				t.Errorf("got entry %+v", e)
			}
			seen[e.name] = true
		}
	})
}

// FuzzAllowedSigners: each accepted line has a key and principals.
func FuzzAllowedSigners(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ9X8jz0eEYFvb0yBzvXb0zSU2N1u7Iq2oO3VgB3f7L"
	for _, seed := range []string{
		"a@example.com " + key, "# words\n\na@example.com,*@example.com namespaces=\"git\",valid-after=\"20260101\" " + key + " comment\n",
		"\"a b\" cert-authority " + key,
	} {
		if _, err := parseAllowedSigners([]byte(seed)); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		all, err := parseAllowedSigners(file)
		if err != nil {
			return
		}
		lines := 0
		for line := range strings.SplitSeq(string(file), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines++
			}
		}
		if len(all) != lines {
			t.Errorf("%d lines became %d signers", lines, len(all))
		}
		for _, s := range all {
			if s.principals == "" || s.key == nil {
				t.Errorf("got signer %+v", s)
			}
		}
	})
}
