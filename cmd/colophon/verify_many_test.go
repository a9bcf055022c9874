package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// pipe is like run, with a given standard input.
func (s *stage) pipe(code int, stdin string, args []string, words ...string) (stdout, stderr string) {
	s.t.Helper()
	cmd := newRootCommand()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(strings.NewReader(stdin))
	if got := execute(context.Background(), cmd); got != code {
		s.t.Fatalf("%v: got exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	for _, w := range words {
		if !strings.Contains(out.String()+errs.String(), w) {
			s.t.Errorf("%v: got\n%s%s\nwant %q in it", args, &out, &errs, w)
		}
	}
	return out.String(), errs.String()
}

// unproven pushes an image without any proof.
func (s *stage) unproven(name, tag string) string {
	s.t.Helper()
	store := prooftest.NewStore(s.t)
	store.Image(tag)
	dst, err := oci.OpenRegistry(s.host+"/"+name, oci.RegistryOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	store.Push(context.Background(), dst)
	return s.host + "/" + name + ":" + tag
}

func TestVerifyMany(t *testing.T) {
	s := newStage(t)
	good, bad, gone := s.image, s.unproven("team/bare", "v1"), s.host+"/team/app:v9"
	verify := func(args ...string) []string {
		return append([]string{"verify", "--skip-source", "--source", "git.example.com/team/app"}, args...)
	}
	s.pipe(exitUndecided, "", verify(good, bad), "2 images: 0 accepted, 0 rejected, 2 undecided", "hint: add a trust root first")
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})

	// The worst outcome decides, in any order: rejected, undecided, accepted.
	s.pipe(exitOK, "", verify(good, good), "✓ accepted  "+good+"  sha256:", "1 image: 1 accepted")
	s.pipe(exitRejected, "", verify(good, bad, gone), "✗ rejected  "+bad, "    ✗ signature", "3 images: 1 accepted, 1 rejected, 1 undecided")
	s.pipe(exitRejected, "", verify(gone, bad, good))
	s.pipe(exitUndecided, "", verify(gone, good), "? undecided "+gone, "    ? image")
	text, _ := s.pipe(exitOK, "", verify("-f", s.file("images.txt", []byte("# ours\n"+good+"\n"))), "1 image: 1 accepted")
	if strings.Contains(text, "✓ image") {
		t.Errorf("got the chain of an accepted image:\n%s", text)
	}

	// The lines keep the order of the arguments, whatever --parallel is.
	text, _ = s.pipe(exitRejected, "", verify("--parallel", "1", gone, bad, good))
	if i, j, k := strings.Index(text, gone), strings.Index(text, bad), strings.Index(text, good); i < 0 || j < i || k < j {
		t.Errorf("got %d, %d, %d, want the order of the names:\n%s", i, j, k, text)
	}

	pods := fmt.Sprintf(`{"apiVersion":"v1","kind":"List","items":[{"kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"image":%q},{"image":%q}]}}]}`, good, bad)
	s.pipe(exitRejected, pods, verify("-"), "2 images: 1 accepted, 1 rejected")
	s.pipe(exitUndecided, "services: {a: {image: "+good+"}, b: {build: .}}", verify("-f", "-"), "service b names no image")

	// A local directory proves nothing about the image that a pod runs.
	s.pipe(exitUndecided, "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: ./testdata}]}", verify("-"), "is not in a registry")

	out, _ := s.pipe(exitRejected, pods, verify("-", "--json"))
	var verdicts []struct{ Image, Outcome string }
	if err := json.Unmarshal([]byte(out), &verdicts); err != nil || len(verdicts) != 2 || verdicts[0].Image != good || verdicts[0].Outcome != "accepted" || verdicts[1].Outcome != "rejected" {
		t.Errorf("JSON: got %+v, %v", verdicts, err)
	}

	s.pipe(exitOK, "", verify(good, "--explain"), "checked   every byte", "against   this digest", "source https://git.example.com/team/app", "rule      each field")
	s.pipe(exitOK, "", verify(good, good, "--explain"), "✓ provenance", "checked   every byte")
	s.pipe(exitUsage, "", verify(good, "--explain", "--json"), "exclude each other")

	s.pipe(exitUsage, "", []string{"verify", "--any-source"}, "nothing to verify")
	s.pipe(exitUsage, "", []string{"verify", good, bad}, "which repository")
	s.pipe(exitUsage, "", verify(good, bad, "--bundle", "x"), "exactly one file")
	s.pipe(exitUsage, "", verify(good, bad, "--parallel", "0"), "--parallel")
	s.pipe(exitUsage, good, verify("-", "-f", "-"), "read only once")
	s.pipe(exitUsage, "", verify("-f", "no-such-file"), "no-such-file")
	s.pipe(exitFailure, "", verify("-"), "standard input: it names no image")
	s.pipe(exitFailure, "", verify(good, "-f", s.file("empty", nil)), "names no image")
	s.stop()
	s.pipe(exitUndecided, "", verify(good, bad), "2 undecided")
}

// TestVerifyTagsOfOneDigest: each further tag of an image costs one request, which
// resolves it, and another image of the same repository does not share its verdict.
func TestVerifyTagsOfOneDigest(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	reg, err := oci.OpenRegistry(s.host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	released, err := reg.Resolve(t.Context(), "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1.2.0-381e42a", "stable"} {
		if err := reg.Tag(t.Context(), tag, released); err != nil {
			t.Fatal(err)
		}
	}
	cost := func(images ...string) int64 {
		t.Helper()
		before := s.asked.Load()
		args := []string{"verify", "--skip-source", "--source", "git.example.com/team/app", "--parallel", "1"}
		s.pipe(exitOK, "", append(args, images...), "0 rejected, 0 undecided")
		return s.asked.Load() - before
	}
	repo := s.host + "/team/app:"
	one := cost(s.image, s.image)
	if three := cost(s.image, repo+"v1.2.0-381e42a", repo+"stable"); three != one+2 {
		t.Errorf("one image: %d requests; the same under three tags: %d, want two more", one, three)
	}
	other := prooftest.NewStore(t)
	other.Tar = []byte("another image")
	other.Image("v2")
	other.Push(t.Context(), reg)
	s.pipe(exitRejected, "", []string{"verify", "--skip-source", "--source", "git.example.com/team/app", "--parallel", "1", s.image, repo + "v2", repo + "stable"}, "2 accepted, 1 rejected")
}

func TestVerifyAllTags(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	verify := func(repo string) []string {
		return []string{"verify", "--skip-source", "--any-source", "--all-tags", s.host + "/" + repo}
	}
	s.pipe(exitOK, "", verify("team/app"), "✓ accepted  "+s.image, "1 accepted, 0 rejected, 0 undecided")
	reg, err := oci.OpenRegistry(s.host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	released, err := reg.Resolve(t.Context(), "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := reg.Manifest(t.Context(), released.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) == 0 {
		t.Fatalf("got %d platforms, %v", len(index.Manifests), err)
	}
	// Tag the image of one platform, which has no attachments of its own.
	for _, tag := range []string{"sneaked-in", "sha256-" + sixtyFour + ".sig"} {
		if err := reg.Tag(t.Context(), tag, index.Manifests[0]); err != nil {
			t.Fatal(err)
		}
	}
	s.pipe(exitRejected, "", verify("team/app"), "team/app:sneaked-in", "skipped 1 tags that hold attachments", "2 images: 1 accepted, 1 rejected")
	s.pipe(exitFailure, "", verify("team/none"), "tags of")
	s.pipe(exitUsage, "", verify("team/app:v1.2.0"), "want HOST/NAME")
}

// TestVerifyManyInterrupted: images that were never verified are not accepted.
func TestVerifyManyInterrupted(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cmd := newRootCommand()
	var out, errs bytes.Buffer
	cmd.SetArgs([]string{"verify", "--skip-source", "--any-source", "--json", s.image, s.image + "x"})
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if got := execute(ctx, cmd); got != exitUndecided {
		t.Errorf("got exit code %d, want %d\n%s", got, exitUndecided, &errs)
	}
	var verdicts []verify.Verdict
	if err := json.Unmarshal(out.Bytes(), &verdicts); err != nil || len(verdicts) != 2 || verdicts[1].Outcome != verify.Undecided || verdicts[1].Image != s.image+"x" {
		t.Errorf("got %+v, %v", verdicts, err)
	}
}

func TestAskOnce(t *testing.T) {
	var asked atomic.Int32
	ask := askOnce(t.Context(), func(_ context.Context, q source.Question) (source.Standing, error) {
		asked.Add(1)
		return source.Standing{Now: q.URI + q.Ref + q.Commit}, errors.New("slow")
	})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, commit := range []string{"a", "b", "a"} {
		state, err := ask(gone, source.Question{URI: "u", Ref: "r", Commit: commit})
		if state.Now != "ur"+commit || err == nil {
			t.Errorf("%s: got %+v, %v", commit, state, err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	// The same of a forge, by all workers of a run.
	asked.Store(0)
	opts := verify.Options{TrackCheck: func(ctx context.Context, uri, ref, commit string) (track.Result, error) {
		asked.Add(1)
		return track.Result{Level: len(uri + ref + commit)}, ctx.Err()
	}}
	askEachOnce(t.Context(), &opts)
	var workers errgroup.Group
	for _, commit := range []string{"a", "bb", "a", "bb"} {
		workers.Go(func() error {
			if r, err := opts.TrackCheck(gone, "u", "r", commit); err != nil || r.Level != 2+len(commit) {
				return fmt.Errorf("%s: got %+v, %v", commit, r, err)
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		t.Error(err)
	}
	if n := asked.Load(); n != 2 || opts.SourceCheck != nil {
		t.Errorf("asked the forge %d times, want 2", n)
	}
}

// TestManyForget: of a verdict that was shown, only its outcome is kept, if no report or document
// needs more; the counts and the worst outcome stay right.
func TestManyForget(t *testing.T) {
	for _, forgets := range []bool{true, false} {
		var out bytes.Buffer
		p := &manyPrinter{w: &out, errs: io.Discard, output: &output{format: "text"}, verdicts: make([]*verify.Verdict, 4), forgets: forgets}
		list := make([]imagelist.Image, len(p.verdicts))
		for _, i := range []int{1, 0, 2} { // the last is never reached
			outcome := []verify.Outcome{verify.Rejected, verify.Accepted, verify.Undecided}[i]
			p.done(i, &verify.Verdict{Image: fmt.Sprintf("image %d", i), Outcome: outcome, Links: []verify.Link{{Name: verify.LinkImage, Claim: "these bytes"}}})
		}
		for i, v := range p.verdicts[:3] {
			if (v.Links == nil) != forgets {
				t.Errorf("forgets %v, verdict %d: got links %v", forgets, i, v.Links)
			}
		}
		if worst := p.finish(list); worst != verify.Rejected {
			t.Errorf("forgets %v: got %s, want rejected", forgets, worst)
		}
		for _, want := range []string{"image 0", "image 1", "image 2", "4 images: 1 accepted, 1 rejected, 2 undecided, 1 of them not verified"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("forgets %v: got\n%s\nwant %q in it", forgets, out.String(), want)
			}
		}
	}
}
