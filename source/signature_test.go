package source

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// sshKey makes a key with ssh-keygen and returns its file and public line.
func sshKey(t *testing.T, kind string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	data, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(data))
}

func (r *repo) signWith(key string) {
	r.git("config", "gpg.format", "ssh")
	r.git("config", "user.signingKey", key)
}

func TestSSHSignatures(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(kind+"/"+format, func(t *testing.T) {
				key, public := sshKey(t, kind)
				r := newRepo(t, "--object-format="+format)
				r.signWith(key)
				r.commit("a", "1")
				r.git("commit", "-q", "--amend", "-S", "-m", "signed\n\ngpgsig in the message\n")
				r.git("tag", "-s", "-m", "one", "v1")
				for _, ref := range []string{"main", "v1"} {
					file := []byte("# people\nrelease@example.com namespaces=\"git\" " + public + "\n")
					_, c := mustFetch(t, Request{URI: r.uri(), Ref: ref, AllowedSigners: file})
					s := c.Signature
					if want := fmt.Sprintf("sha256:%x", sha256.Sum256(file)); s.Signers != want {
						t.Errorf("%s: named by the file %s, want %s", ref, s.Signers, want)
					}
					if s.Status != Verified || s.Signer != "release@example.com" || s.Kind != "ssh" || !strings.HasPrefix(s.Key, "SHA256:") || s.Object != map[string]string{"main": "commit", "v1": "tag"}[ref] {
						t.Errorf("%s: got %+v", ref, s)
					}
				}
			})
		}
	}
}

func TestAllowedSigners(t *testing.T) {
	key, public := sshKey(t, "ed25519")
	_, other := sshKey(t, "ed25519")
	r := newRepo(t) // commits on 2023-11-14 at 22:14:20 UTC
	r.signWith(key)
	r.commit("a", "1")
	r.git("tag", "-s", "-m", "one", "v1")
	for _, tc := range []struct {
		file   string
		status SignatureStatus
		signer string
	}{
		{"", Unverified, ""},
		{"x@example.com " + other, Unverified, ""},
		{"x@example.com " + other + "\ny@example.com,*@z.example " + public + " comment", Verified, "y@example.com,*@z.example"},
		{`"quoted name" ` + public, Verified, "quoted name"},
		{`a@b namespaces="file" ` + public, Unverified, ""},
		{`a@b namespaces="file,g?t" ` + public, Verified, "a@b"},
		{`a@b cert-authority ` + public, Unverified, ""},
		{`a@b valid-after="20231114" ` + public, Verified, "a@b"},
		{`a@b valid-after="20231115Z" ` + public, Unverified, ""},
		{`a@b valid-before="20231114221420Z" ` + public, Unverified, ""},
		{`a@b valid-after="202311142214",valid-before="20231114221421" ` + public, Verified, "a@b"},
	} {
		_, c := mustFetch(t, Request{URI: r.uri(), Ref: "v1", AllowedSigners: []byte(tc.file)})
		if c.Signature.Status != tc.status || c.Signature.Signer != tc.signer {
			t.Errorf("%q: got %+v, want %s by %q", tc.file, c.Signature, tc.status, tc.signer)
		}
	}
	for _, file := range []string{"a@b", "a@b " + public[:40], `a@b valid-before="soon" ` + public, `a@b unheard-of="x" ` + public, `"open ` + public, `a@b namespaces="!git" ` + public} {
		if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "v1", AllowedSigners: []byte(file)}); err == nil {
			t.Errorf("%q was taken", file)
		}
	}
}

func TestForgedSSHSignatures(t *testing.T) {
	key, public := sshKey(t, "ed25519")
	r := newRepo(t)
	r.signWith(key)
	good := r.commit("a", "1")
	r.git("tag", "-s", "-m", "one", "v1")
	r.git("commit", "-q", "--amend", "-S", "-m", "signed")
	signed := r.git("cat-file", "commit", "HEAD") + "\n"
	evil := r.commit("a", "evil")
	tag := r.git("cat-file", "tag", "v1") + "\n"
	block := tag[strings.Index(tag, "-----BEGIN"):]
	object := func(kind, raw string) string {
		return r.in(raw, "hash-object", "-w", "-t", kind, "--literally", "--stdin")
	}
	wrongNamespace := exec.Command("ssh-keygen", "-Y", "sign", "-q", "-n", "file", "-f", key)
	wrongNamespace.Stdin = strings.NewReader(tag[:strings.Index(tag, "-----BEGIN")])
	foreign, err := wrongNamespace.Output()
	if err != nil {
		t.Fatal(err)
	}
	header := signed[strings.Index(signed, "gpgsig "):strings.Index(signed, "\n\n")]
	refs := map[string]string{
		"refs/tags/other-commit":    object("tag", strings.Replace(strings.Replace(tag, good, evil, 1), "tag v1\n", "tag other-commit\n", 1)),
		"refs/tags/v2":              r.git("rev-parse", "v1"), // a good tag under a name it was not signed for
		"refs/tags/changed-message": object("tag", strings.Replace(strings.Replace(tag, "one", "two", 1), "tag v1\n", "tag changed-message\n", 1)),
		"refs/tags/after":           object("tag", strings.Replace(tag, "tag v1\n", "tag after\n", 1)+"more text\n"),
		"refs/tags/rubbish":         object("tag", strings.Replace(tag[:len(tag)-len(block)], "tag v1\n", "tag rubbish\n", 1)+"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"),
		"refs/heads/other-tree":     object("commit", strings.Replace(signed, r.git("rev-parse", good+"^{tree}"), r.git("rev-parse", evil+"^{tree}"), 1)),
		"refs/heads/twice":          object("commit", strings.Replace(signed, header, header+"\n"+header, 1)),
		"refs/heads/other-format":   object("commit", strings.Replace(signed, "gpgsig ", "gpgsig-sha256 ", 1)),
		"refs/heads/in-message":     object("commit", strings.Replace(signed, header+"\n", "", 1)+"\n"+header+"\n"),
	}
	want := map[string]SignatureStatus{"refs/heads/other-format": Unsigned, "refs/heads/in-message": Unsigned}
	for name, id := range refs {
		r.git("update-ref", name, id)
	}
	nsTag := object("tag", tag[:strings.Index(tag, "-----BEGIN")]+string(foreign))
	allowed := []byte("release@example.com " + public)
	for name := range refs {
		repo, c, err := fetch(t, Request{URI: r.uri(), Ref: name, AllowedSigners: allowed})
		if err != nil && strings.Contains(err.Error(), "fsck") {
			t.Logf("%s: git refused it: %v", name, err)
			continue
		}
		if err != nil || repo == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		status := want[name]
		if status == "" {
			status = Bad
		}
		if c.Signature.Status != status || c.Signature.Signer != "" {
			t.Errorf("%s: got %+v, want %s", name, c.Signature, status)
		}
	}
	r.git("update-ref", "refs/tags/v1", nsTag)
	if _, c := mustFetch(t, Request{URI: r.uri(), Ref: "v1", AllowedSigners: allowed}); c.Signature.Status != Bad {
		t.Errorf("signed for another namespace: got %+v", c.Signature)
	}
}

func TestOpenPGPSignatures(t *testing.T) {
	made := time.Unix(1690000000, 0)
	conf := &packet.Config{Time: func() time.Time { return made }, Algorithm: packet.PubKeyAlgoEdDSA}
	who, err := openpgp.NewEntity("Release", "", "release@example.com", conf)
	if err != nil {
		t.Fatal(err)
	}
	other, err := openpgp.NewEntity("Other", "", "other@example.com", conf)
	if err != nil {
		t.Fatal(err)
	}
	r := newRepo(t)
	r.commit("a", "1")
	sign := func(payload string) string {
		var b bytes.Buffer
		at := &packet.Config{Time: func() time.Time { return time.Unix(1700000060, 0) }}
		if err := openpgp.ArmoredDetachSign(&b, who, strings.NewReader(payload), at); err != nil {
			t.Fatal(err)
		}
		return strings.TrimRight(b.String(), "\n") + "\n"
	}
	commit := r.git("cat-file", "commit", "HEAD") + "\n"
	put := func(branch, payload, sig string) {
		header := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(sig, "\n"), "\n", "\n ")
		raw := strings.Replace(payload, "\n\n", "\n"+header+"\n\n", 1)
		r.git("update-ref", "refs/heads/"+branch, r.in(raw, "hash-object", "-w", "-t", "commit", "--stdin"))
	}
	put("good", commit, sign(commit))
	put("bad", strings.Replace(commit, "change", "other", 1), sign(commit))
	ring := func(entities ...*openpgp.Entity) []byte {
		var all bytes.Buffer
		for _, e := range entities {
			w, err := armor.Encode(&all, openpgp.PublicKeyType, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Serialize(w); err != nil {
				t.Fatal(err)
			}
			w.Close()
			all.WriteString("\n")
		}
		return all.Bytes()
	}
	for _, tc := range []struct {
		ref    string
		status SignatureStatus
		signer string
		ring   []byte
	}{
		{"good", Verified, "Release <release@example.com>", ring(other, who)},
		{"good", Unverified, "", ring(other)},
		{"good", Unverified, "", nil},
		{"bad", Bad, "", ring(who)},
		{"main", Unsigned, "", ring(who)},
	} {
		_, c := mustFetch(t, Request{URI: r.uri(), Ref: tc.ref, Keyring: tc.ring})
		s := c.Signature
		if s.Status != tc.status || s.Signer != tc.signer || tc.status != Unsigned && (s.Kind != "openpgp" || len(s.Key) != 40) {
			t.Errorf("%s: got %+v, want %s by %q", tc.ref, s, tc.status, tc.signer)
		}
	}
	if _, _, err := fetch(t, Request{URI: r.uri(), Ref: "good", Keyring: []byte("no key")}); err == nil {
		t.Error("a keyring without a key was taken")
	}
}
