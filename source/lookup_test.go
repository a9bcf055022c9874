package source

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// asked looks a commit up over both protocols, and compares the answer.
func asked(t *testing.T, r *repo, web string, q Question, want Standing) {
	t.Helper()
	for _, uri := range []string{r.uri(), web} {
		q.URI = uri
		got, err := Lookup(t.Context(), q)
		if err != nil || got != want {
			t.Errorf("%s: %q %s: got %+v, %v; want %+v", uri, q.Ref, q.Commit, got, err, want)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for git
			r := newRepo(t, "--object-format="+format)
			first := r.commit("a", "1")
			tree := r.git("rev-parse", "HEAD^{tree}")
			r.git("tag", "-a", "-m", "one", "v1")
			r.git("tag", "light")
			second := r.commit("a", "2")
			web := r.serve()
			never := strings.Repeat("12", len(first)/2)
			for _, tc := range []struct {
				ref, commit string
				want        Standing
			}{
				{"refs/tags/v1", first, Standing{Commit: true, Ref: RefThere, Now: first}},
				{"refs/tags/light", first, Standing{Commit: true, Ref: RefThere, Now: first}},
				{"refs/heads/main", second, Standing{Commit: true, Ref: RefThere, Now: second}},
				{"refs/heads/main", first, Standing{Commit: true, Ref: RefForward, Now: second}},
				{"refs/heads/main", never, Standing{Ref: RefRewritten, Now: second}},
				{"refs/heads/other", first, Standing{Commit: true, Ref: RefMerged}},
				{"refs/heads/other", never, Standing{Ref: RefGone}},
				{"refs/tags/v2", first, Standing{Commit: true, Ref: RefGone}},
				{"refs/tags/v1", second, Standing{Commit: true, Ref: RefMoved, Now: first}},
				{"refs/tags/v1", never, Standing{Ref: RefMoved, Now: first}},
				{"", second, Standing{Commit: true, Within: "refs/heads/main"}},
				{"", first, Standing{Commit: true, Within: "refs/tags/light"}},
				{"", never, Standing{}},
			} {
				if format == "sha1" {
					if got, err := Lookup(t.Context(), Question{URI: r.uri(), Ref: tc.ref, Commit: tc.commit}); err != nil || got != tc.want {
						t.Errorf("%q %s: got %+v, %v; want %+v", tc.ref, tc.commit, got, err, tc.want)
					}
				}
				// With a tree in the question, the rest of the answer is the same.
				if tc.want.Commit {
					tc.want.Tree = r.git("rev-parse", tc.commit+"^{tree}")
				}
				if got, err := Lookup(t.Context(), Question{URI: web, Ref: tc.ref, Commit: tc.commit, Tree: tree}); err != nil || got != tc.want {
					t.Errorf("%q %s: got %+v, %v; want %+v", tc.ref, tc.commit, got, err, tc.want)
				}
			}
			asked(t, r, web, Question{Ref: "refs/tags/v1", Commit: first, Tree: tree, Signers: &Signers{}},
				Standing{Commit: true, Ref: RefThere, Now: first, Tree: tree, Signature: Signature{Status: Unsigned}})
		})
	}
	if got, err := Lookup(t.Context(), Question{URI: "http://127.0.0.1:1/none", Commit: strings.Repeat("12", 20)}); err == nil {
		t.Errorf("nobody there: got %+v, want an error", got)
	}
}

// A canonical address does not end in .git, but some servers require .git.
func TestLookupWithoutGitSuffix(t *testing.T) {
	r := newRepo(t)
	id := r.commit("a", "1")
	uri := r.serve()
	if err := os.Rename(r.dir, r.dir+".git"); err != nil {
		t.Fatal(err)
	}
	if got, err := Lookup(t.Context(), Question{URI: uri, Ref: "refs/heads/main", Commit: id}); err != nil || !got.Holds() {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The effects of a force push, a moved tag and a deleted ref on a commit that the
// repository still serves.
func TestRewrittenHistory(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	base := r.commit("a", "base")
	lost := r.commit("a", "lost")
	r.git("tag", "v1")
	r.git("branch", "side")
	r.git("reset", "-q", "--hard", base)
	now := r.commit("a", "instead") // the force push
	web := r.serve()
	asked(t, r, web, Question{Ref: "refs/heads/main", Commit: lost}, Standing{Commit: true, Ref: RefRewritten, Now: now})
	// Another branch has the old history, but the ref is main.
	r.git("checkout", "-q", "side")
	r.commit("b", "1")
	r.git("checkout", "-q", "main")
	asked(t, r, web, Question{Ref: "refs/heads/main", Commit: lost}, Standing{Commit: true, Ref: RefRewritten, Now: now})

	r.git("tag", "-f", "v1", now)
	asked(t, r, web, Question{Ref: "refs/tags/v1", Commit: lost}, Standing{Commit: true, Ref: RefMoved, Now: now})
	// A tag must not move, not even to a descendant of the commit.
	asked(t, r, web, Question{Ref: "refs/tags/v1", Commit: base}, Standing{Commit: true, Ref: RefMoved, Now: now})
	r.git("tag", "-d", "v1")
	asked(t, r, web, Question{Ref: "refs/tags/v1", Commit: now}, Standing{Commit: true, Ref: RefGone})

	// A branch that was merged before it was deleted is fine; one that was only deleted is not.
	r.git("merge", "-q", "-s", "ours", "-m", "merge", "side")
	r.git("branch", "-D", "side")
	asked(t, r, web, Question{Ref: "refs/heads/side", Commit: lost}, Standing{Commit: true, Ref: RefMerged})
	r.git("reset", "-q", "--hard", now)
	asked(t, r, web, Question{Ref: "refs/heads/side", Commit: lost}, Standing{Commit: true, Ref: RefGone})

	if (Standing{Commit: true}).Holds() || !(Standing{Commit: true, Within: "refs/heads/main"}).Holds() || (Standing{Commit: true, Ref: RefGone, Within: "refs/heads/main"}).Holds() {
		t.Error("without a ref, a branch or tag must have the commit")
	}
	for ref, holds := range map[RefStatus]bool{RefThere: true, RefForward: true, RefMerged: true, RefRewritten: false, RefMoved: false, RefGone: false} {
		if got := (Standing{Commit: true, Ref: ref}).Holds(); got != holds {
			t.Errorf("%q: got %v", ref, got)
		}
		if (Standing{Ref: ref}).Holds() {
			t.Errorf("%q: holds without its commit", ref)
		}
	}
}

// Committers choose commit times. The answer does not depend on them.
func TestHistoryOutOfOrder(t *testing.T) {
	r := newRepo(t)
	r.env = append(r.env, "GIT_COMMITTER_DATE=1900000000 +0000")
	future := r.commit("a", "1")
	r.env = append(r.env, "GIT_COMMITTER_DATE=1000000000 +0000")
	for _, n := range []string{"2", "3", "4"} {
		r.commit("a", n)
	}
	now := r.git("rev-parse", "HEAD")
	asked(t, r, r.serve(), Question{Ref: "refs/heads/main", Commit: future}, Standing{Commit: true, Ref: RefForward, Now: now})
}

// A history that is too large is an error, not an answer.
func TestEndlessHistory(t *testing.T) {
	defer func(old int64) { historyCap = old }(historyCap)
	historyCap = 16 << 10
	r := newRepo(t)
	first := r.commit("a", "1")
	r.git("commit", "-q", "--allow-empty", "-m", noise(64<<10))
	got, err := Lookup(t.Context(), Question{URI: r.serve(), Ref: "refs/heads/main", Commit: first})
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %+v, %v, want an error", got, err)
	}
}

// noise returns bytes that do not compress.
func noise(n int) string {
	var b strings.Builder
	for x := uint32(1); b.Len() < n; x = x*1664525 + 1013904223 {
		b.WriteByte('a' + byte(x>>24)%26)
	}
	return b.String()
}

func TestLookupSignatures(t *testing.T) {
	t.Parallel()
	key, public := sshKey(t, "ed25519")
	_, other := sshKey(t, "ed25519")
	r := newRepo(t)
	r.signWith(key)
	unsigned := r.commit("a", "1")
	r.git("tag", "plain")
	r.git("commit", "-q", "--allow-empty", "-S", "-m", "signed")
	signed := r.git("rev-parse", "HEAD")
	r.git("tag", "-s", "-m", "one", "v1")
	r.git("update-ref", "refs/tags/v2", r.git("rev-parse", "refs/tags/v1")) // another name than was signed
	web := r.serve()
	mine := &Signers{AllowedSigners: []byte("release@example.com " + public)}
	for _, tc := range []struct {
		name, ref, commit string
		signers           *Signers
		status            SignatureStatus
		signer            string
		object            string
	}{
		{"tag", "refs/tags/v1", signed, mine, Verified, "release@example.com", "tag"},
		{"commit", "refs/heads/main", signed, mine, Verified, "release@example.com", "commit"},
		{"commit without a ref", "", signed, mine, Verified, "release@example.com", "commit"},
		{"of a stranger", "refs/tags/v1", signed, &Signers{AllowedSigners: []byte("x@example.com " + other)}, Unverified, "", "tag"},
		{"nobody named", "refs/tags/v1", signed, &Signers{}, Unverified, "", "tag"},
		{"unsigned tag", "refs/tags/plain", unsigned, mine, Unsigned, "", ""},
		{"unsigned commit", "refs/heads/main", unsigned, mine, Unsigned, "", ""},
		{"under another name", "refs/tags/v2", signed, mine, Bad, "", "tag"},
	} {
		for _, uri := range []string{r.uri(), web} {
			got, err := Lookup(t.Context(), Question{URI: uri, Ref: tc.ref, Commit: tc.commit, Signers: tc.signers})
			if s := got.Signature; err != nil || !got.Holds() || s.Status != tc.status || s.Signer != tc.signer || s.Object != tc.object {
				t.Errorf("%s: got %+v, %v", tc.name, got, err)
			}
		}
	}
	if _, err := Lookup(t.Context(), Question{URI: web, Commit: signed, Signers: &Signers{AllowedSigners: []byte("junk")}}); err == nil {
		t.Error("a signers file that is none was taken")
	}
}

// TestLookupRewritten tells apart how a branch lost a commit, and reads the commit itself: in files,
// over http and over ssh.
func TestLookupRewritten(t *testing.T) {
	r := newRepo(t)
	first := r.commit("a", "1")
	second := r.commit("a", "2")
	web := r.serve()
	file, public := sshKey(t, "ed25519")
	client, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	address, known := sshServer(t, r, client)
	shell := "ssh://git@" + address + "/org/app"
	ask := func(ref, commit string) Standing {
		t.Helper()
		var last Standing
		for i, uri := range []string{r.uri(), web, shell} {
			q := Question{URI: uri, Ref: ref, Commit: commit, Object: true}
			if uri == shell {
				q.Credential = &Credential{Scope: shell, Key: key, KnownHosts: []byte(known)}
			}
			got, err := Lookup(t.Context(), q)
			if err != nil || i > 0 && got != last {
				t.Fatalf("%s: got %+v, %v; want %+v", uri, got, err, last)
			}
			last = got
		}
		return last
	}
	if got := ask("refs/heads/main", second); got.Ref != RefThere || got.Back || got.Object == "" {
		t.Fatalf("got %+v, want the commit", got)
	} else if c, err := ReadCommit(second, got.Object); err != nil || c.ID != second || len(c.Parents) != 1 || c.Parents[0] != first || c.Author == "" || c.Committed.IsZero() {
		t.Errorf("got %+v, %v", c, err)
	} else if _, err := ReadCommit(first, got.Object); err == nil {
		t.Error("the content of another commit was accepted")
	} else if _, err := ReadCommit(second, got.Object+" "); err == nil {
		t.Error("a changed commit was accepted")
	}
	r.git("config", "uploadpack.allowAnySHA1InWant", "true")
	r.git("reset", "-q", "--hard", first)
	if got := ask("refs/heads/main", second); !got.Commit || got.Ref != RefRewritten || !got.Back || got.Now != first {
		t.Errorf("set back: got %+v", got)
	}
	other := r.commit("a", "3")
	if got := ask("refs/heads/main", second); !got.Commit || got.Ref != RefRewritten || got.Back || got.Now != other {
		t.Errorf("rewritten: got %+v", got)
	}
}
