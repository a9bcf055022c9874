package attack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// A victim is an honestly released image.
type victim struct {
	p      *harness.Platform
	repo   string
	image  string // REGISTRY/NAME
	digest string
	source string // value of --source
}

// victim releases an image on the default platform, once per name.
func (s *scene) victim(name string) victim {
	s.Helper()
	p := s.platform("step")
	v := victim{p: p, image: p.Addr + "/victims/" + name}
	if known, ok := s.victims[name]; ok {
		return known
	}
	v.repo = filepath.Join(s.dir, "victim-"+name)
	dockerfile := "FROM scratch\nCOPY Dockerfile /\n# " + name + "\n"
	harness.Write(s, v.repo, map[string]string{"Dockerfile": dockerfile + "# older\n"})
	s.commit(v.repo)
	gittest.Git(s, v.repo, "tag", "v0.9.0")
	harness.Write(s, v.repo, map[string]string{"Dockerfile": dockerfile})
	gittest.Git(s, v.repo, "commit", "-q", "-a", "-m", "second")
	gittest.Git(s, v.repo, "tag", "-f", "-a", "-m", "v1.0.0", "v1.0.0")
	v.digest = s.mustRelease(p, v.repo, "victims/"+name).Digest
	v.source = "file://" + v.repo
	s.victims[name] = v
	return v
}

// older releases the victim's earlier commit. Its proof differs from the victim's only in image, commit and ref.
func (s *scene) older(v victim) victim {
	s.Helper()
	v.image += "-older"
	r, said, err := s.release(v.p, v.repo, strings.TrimPrefix(v.image, v.p.Addr+"/"), func(r *api.ReleaseRequest) { r.Ref = "v0.9.0" })
	if err != nil {
		s.Fatalf("release of v0.9.0: %v\n%s", err, said)
	}
	v.digest = r.Digest
	return v
}

// open opens a repository of a platform with one of its tokens: client.json may push, admin.json may delete.
func (s *scene) open(p *harness.Platform, image, token string) *oci.Registry {
	s.Helper()
	ref, err := oci.ParseReference(image)
	if err != nil {
		s.Fatal(err)
	}
	r, err := oci.OpenRegistry(ref.Repository, oci.RegistryOptions{Token: p.Token(token)})
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// bundles returns the bundles attached to an image, by predicate type.
func (s *scene) bundles(v victim) map[string][]byte {
	s.Helper()
	h, err := v1.NewHash(v.digest)
	if err != nil {
		s.Fatal(err)
	}
	attached, err := oci.Bundles(context.Background(), s.open(v.p, v.image, "client.json"), h)
	if err != nil {
		s.Fatal(err)
	}
	out := map[string][]byte{}
	for _, a := range attached {
		out[a.Annotations[attest.AnnotationType]] = a.Raw
	}
	return out
}

var _ = register(attack{
	name: "unproved-image", tries: "push an image without proof under a version tag, so that it passes for a release",
	guard: "an image without proof is not a release, whatever its tag: verify conclude, release finishTagged",
	cuts:  []cut{cutDemand, {"platform/release/proofs.go", `if err := j.sameRecipe(ctx, digest); err != nil {`, `if false {`}},
	beside: func(s *scene) (string, string) {
		v := s.victim("app")
		ctx := context.Background()
		from, to := s.open(v.p, v.image, "client.json"), s.open(v.p, v.p.Addr+"/squatted", "client.json")
		d, err := from.Resolve(ctx, v.digest)
		if err == nil {
			err = errors.Join(oci.Copy(ctx, to, from, d), to.Tag(ctx, "v1.0.0", d))
		}
		if err != nil {
			s.Fatal(err)
		}
		through, _ := s.judgedBy(v, v.p.Addr+"/squatted:v1.0.0", "signature")
		other := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /other\n"})
		r, _, err := s.release(v.p, other, "squatted")
		if err != nil {
			return through, err.Error()
		}
		return fmt.Sprintf("%s; a release of another source adopted the tag: %s", through, r.Digest), ""
	},
})

// put sends a request with one of the platform's tokens, and returns the status and the body.
func (s *scene) put(p *harness.Platform, method, path, token, contentType string, body []byte) (int, string) {
	s.Helper()
	req, err := http.NewRequest(method, p.URL+path, bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+p.Token(token))
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(answer)
}

// tagged returns the digest that the registry reports for the victim's tag.
func (s *scene) tagged(v victim) string {
	s.Helper()
	resp, err := http.Head(v.p.URL + "/v2/" + strings.TrimPrefix(v.image, v.p.Addr+"/") + "/manifests/v1.0.0")
	if err != nil {
		s.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}

var _ = register(attack{
	name: "overwrite-a-tag", tries: "move a released tag to another image, with a push token",
	guard: "tags never move: platform/registry storeManifest",
	cuts:  []cut{{"platform/registry/manifest.go", `if err == nil && have != d && !r.mutable(`, `if false && err == nil && have != d && !r.mutable(`}},
	beside: func(s *scene) (string, string) {
		v := s.victim("app")
		if s.tagged(v) != v.digest {
			s.Fatal("the victim has no tag")
		}
		// The same image with a different manifest, whose blobs all exist.
		raw := append(v.p.Get("/v2/victims/app/manifests/"+v.digest), '\n')
		ct := "application/vnd.oci.image.manifest.v1+json"
		said := ""
		for _, path := range []string{"/v2/victims/app/manifests/v1.0.0", "/v2/victims/app/manifests/sha256:" + hexSum(raw) + "?tag=v1.0.0"} {
			code, answer := s.put(v.p, http.MethodPut, path, "client.json", ct, raw)
			said = fmt.Sprintf("%d %s", code, answer)
			if s.tagged(v) != v.digest {
				return "v1.0.0 is now another image", ""
			}
		}
		return "", said
	},
})

var _ = register(attack{
	name: "delete-a-tag", tries: "delete a released tag, image or proof, with a push token or without a token",
	guard: "only an admin may delete: platform/registry authorize",
	cuts:  []cut{{"platform/registry/registry.go", `need, action = Admin, actionDelete`, `need = Push`}},
	beside: func(s *scene) (string, string) {
		v := s.victim("app")
		said := ""
		for _, token := range []string{"", "client.json"} {
			for _, ref := range []string{"manifests/v1.0.0", "manifests/" + v.digest, "referrers/" + v.digest} {
				code, _ := s.put(v.p, http.MethodDelete, "/v2/victims/app/"+ref, token, "", nil)
				if said = http.StatusText(code); code < 400 {
					return fmt.Sprintf("deleting %s: %s; v1.0.0 is now %q", ref, said, s.tagged(v)), ""
				}
			}
		}
		if s.tagged(v) != v.digest {
			return "the tag is gone", ""
		}
		if code, out := s.verify(v.p, v.image+":v1.0.0", "--source", v.source); code != 0 {
			return "the proof is gone: " + out, ""
		}
		return "", said
	},
})

var _ = register(attack{
	name: "swapped-ref", tries: "move the ref to another commit between the request and the fetch",
	guard: "the platform fetches only the commit that the requester saw: source fetch",
	cuts:  []cut{{"source/fetch.go", `if commit != "" && t.commit != commit {`, `if false && t.commit != commit {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /good\n"})
		seen := gittest.Git(s, repo, "rev-parse", "HEAD")
		evil := s.forcePush(repo, "FROM scratch\nCOPY Dockerfile /evil\n")
		r, _, err := s.release(p, repo, "swapped", func(r *api.ReleaseRequest) { r.Commit = seen })
		if code, _ := s.put(p, http.MethodGet, "/v2/swapped/manifests/v1.0.0", "", "", nil); code == http.StatusOK {
			return "the other commit was released: " + evil, ""
		}
		if err == nil {
			return fmt.Sprintf("released %+v", r), ""
		}
		return "", err.Error()
	},
})

// forcePush moves the tag to another commit, and makes git forget the first one.
func (s *scene) forcePush(repo, dockerfile string) string {
	s.Helper()
	harness.Write(s, repo, map[string]string{"Dockerfile": dockerfile})
	gittest.Git(s, repo, "commit", "-q", "-a", "--amend", "-m", "evil")
	gittest.Git(s, repo, "tag", "-f", "-a", "-m", "v1.0.0", "v1.0.0")
	gittest.Git(s, repo, "reflog", "expire", "--expire=now", "--all")
	gittest.Git(s, repo, "gc", "-q", "--prune=now")
	return gittest.Git(s, repo, "rev-parse", "HEAD")
}

var _ = register(attack{
	name: "force-push", tries: "force-push the tag during the build, so that the image is signed for another commit",
	guard: "the platform fetches the commit once, and uses only that copy: release fetch",
	cuts: []cut{{"platform/release/release.go", `	if err := j.publish(ctx, b, m, top); err != nil {`, `	os.RemoveAll(filepath.Join(j.dir, "git"))
	os.RemoveAll(j.tree)
	if err := j.fetch(ctx); err != nil {
		return err
	}
	if err := j.publish(ctx, b, m, top); err != nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		repo := s.repository(map[string]string{"go.mod": "module x\n", "Dockerfile": "good\n"})
		good := gittest.Git(s, repo, "rev-parse", "HEAD")
		l := honest()
		evil := ""
		l.during = func() { evil = s.forcePush(repo, "evil\n") }
		s.usurp(p, l)
		r, said, err := s.release(p, repo, "forced", golang)
		if evil == "" {
			s.Fatalf("nothing was built: %v\n%s", err, said)
		}
		if err == nil && (r.Source.ID != good || l.seenSource["Dockerfile"] != "good\n") {
			return fmt.Sprintf("it is signed for %s, but its tree was %q", r.Source.ID, l.seenSource["Dockerfile"]), ""
		}
		if err != nil {
			return "", err.Error()
		}
		code, out := s.verify(p, p.Addr+"/forced:v1.0.0", "--source", "file://"+repo, "--commit", evil)
		if code == 0 {
			return "verify accepts it as the other commit: " + out, ""
		}
		return "", "signed for " + good[:7] + ", whose tree was built"
	},
})

var _ = register(attack{
	name: "submit-a-digest", tries: "make the platform sign a digest that an API request names",
	guard: "requests name only a source and a ref, and unknown members are refused: platform/api ReadReleaseRequest",
	cuts: []cut{{"platform/api/api.go", "	Ref            string        `json:\"ref\"`\n", "	Ref            string        `json:\"ref\"`\n	Digest         string        `json:\"digest\"`\n"},
		{"platform/release/release.go", `			g.Go(func() error { return p.attachSignature(gctx) })`, `		g.Go(func() error {
			named := &proofs{run: j, subject: m.Descriptor, uploaded: uploaded}
			if j.req.Digest != "" {
				named.subject.Digest.Hex = strings.TrimPrefix(j.req.Digest, "sha256:")
			}
			return named.attach(gctx, named.signature())
		})`}},
	beside: func(s *scene) (string, string) {
		v := s.victim("app")
		before := v.p.Checkpoint().Size
		unreleased := s.rewritten(v, "submitted")
		said := ""
		for _, member := range []string{`"digest":"` + unreleased.digest + `"`, `"tree":"/etc"`, `"layout":"/tmp"`, `"builder":"x"`, `"session":"x"`} {
			body := fmt.Sprintf(`{"source":%q,"ref":"v1.0.0","image":%q,"recipe":{},%s}`, v.source, unreleased.image, member)
			code, answer := s.put(v.p, http.MethodPost, api.PathReleases, "client.json", "application/json", []byte(body))
			if signer := s.signer(unreleased); signer != "" {
				return fmt.Sprintf("%s has a signature by %s", unreleased.digest, signer), ""
			}
			if code < 400 {
				return fmt.Sprintf("%s was accepted: %d %s", member, code, answer), ""
			}
			said = answer
		}
		body := fmt.Sprintf(`{"source":%q,"ref":"v1.0.0","image":%q,"recipe":{}}`, v.source, unreleased.image)
		if code, answer := s.put(v.p, http.MethodPost, api.PathReleases, "", "application/json", []byte(body)); code != http.StatusUnauthorized {
			return fmt.Sprintf("a request without a token: %d %s", code, answer), ""
		}
		if after := v.p.Checkpoint().Size; after != before {
			return fmt.Sprintf("the log grew from %d to %d entries", before, after), ""
		}
		return "", said
	},
})

// rewritten pushes the victim's image with a different manifest to another repository. Nobody released that image.
func (s *scene) rewritten(v victim, name string) victim {
	s.Helper()
	other := victim{p: v.p, image: v.p.Addr + "/" + name, source: v.source}
	ctx := context.Background()
	from := s.open(v.p, v.image, "client.json")
	d, err := from.Resolve(ctx, v.digest)
	if err == nil {
		err = oci.Copy(ctx, s.open(v.p, other.image, "client.json"), from, d)
	}
	if err != nil {
		s.Fatal(err)
	}
	raw := append(v.p.Get("/v2/"+name+"/manifests/"+v.digest), '\n')
	other.digest = "sha256:" + hexSum(raw)
	if code, answer := s.put(v.p, http.MethodPut, "/v2/"+name+"/manifests/"+other.digest, "client.json", string(d.MediaType), raw); code != http.StatusCreated {
		s.Fatalf("%d %s", code, answer)
	}
	return other
}

// signer returns who signed an image, according to the platform's trust document. It is empty if no signature verifies.
func (s *scene) signer(v victim) string {
	s.Helper()
	root, err := trust.Parse(v.p.Get(root.DocumentPath))
	if err != nil {
		s.Fatal(err)
	}
	h, err := v1.NewHash(v.digest)
	if err != nil {
		s.Fatal(err)
	}
	for _, b := range s.bundles(v) {
		signed, err := bundle.ParsePlatform(b)
		if err != nil {
			continue
		}
		if r := signed.Verify(bundle.Subject{Digest: h}, root.Material, time.Now()); r.Err() == nil {
			return r.Identity.SubjectAlternativeName
		}
	}
	return ""
}

var _ = register(attack{
	name: "secrets-in-sight", tries: "as another user of the host, find keys and tokens in the platform's arguments, environments and files",
	guard: "roles read their settings from standard input, and their directories are private: platform/zone Process.Command, ChownTree",
	cuts:  []cut{{"platform/zone/process.go", `cmd.Args[0] = "colophond"`, `cmd.Args[0] = fmt.Sprintf("colophond %.9999s", settings)`}},
	beside: func(s *scene) (string, string) {
		s.victim("app") // so that all roles have worked
		looked := 0
		var through string
		procs, _ := filepath.Glob("/proc/[0-9]*")
		for _, proc := range procs {
			for _, f := range []string{"cmdline", "environ"} {
				data, err := os.ReadFile(filepath.Join(proc, f)) // root sees at least as much as other users
				if err != nil || !bytes.Contains(data, []byte("colophond")) && f == "cmdline" {
					continue
				}
				looked++
				if what := s.secretIn(data); what != "" {
					through = fmt.Sprintf("%s of %s shows %s", f, proc, what)
				}
			}
		}
		if looked < 6 {
			s.Fatalf("looked at only %d files", looked)
		}
		for _, p := range s.platforms {
			filepath.WalkDir(p.Data, func(path string, d os.DirEntry, err error) error {
				if err != nil {
					return nil
				}
				info, err := d.Info()
				if err != nil {
					return nil
				}
				// A directory that other users cannot enter hides everything below it.
				if d.IsDir() && info.Mode().Perm()&0o011 == 0 {
					return filepath.SkipDir
				}
				if d.Type().IsRegular() && info.Mode().Perm()&0o044 != 0 {
					data, _ := os.ReadFile(path)
					if what := s.secretIn(data); what != "" {
						through = fmt.Sprintf("other users may read %s in %s", what, path)
					}
				}
				return nil
			})
			if what := s.secretIn([]byte(p.Log.String())); what != "" {
				through = "the platform's log shows " + what
			}
		}
		return through, "no secret in arguments, environments, logs and readable files"
	},
})

// anyToken matches the platform's tokens, including those that only its roles know.
var anyToken = regexp.MustCompile(`colophon_[0-9a-f]{64}`)

// secretIn returns the name of a secret that data contains, or an empty string.
func (s *scene) secretIn(data []byte) string {
	for what, secret := range s.secrets {
		if bytes.Contains(data, []byte(secret)) {
			return what
		}
	}
	if anyToken.Match(data) {
		return "a token"
	}
	return ""
}

var _ = register(attack{
	name: "log-rolled-back", tries: "restore an earlier state of the log's tiles, so that the log forgets an entry",
	guard: "the log compares its tree with its index, and refuses a smaller tree: platform/authority/log open",
	cuts:  []cut{{"platform/authority/log/server.go", `if err := s.index.Check(s.ctx, "log", source{v}, v.Checkpoint); err != nil {`, `if err := error(nil); err != nil {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("log")
		repo := s.repository(map[string]string{"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
		tiles := filepath.Join(p.Data, "log", "tiles")
		aside := filepath.Join(s.TempDir(), "tiles")
		p.Kill()
		harness.CopyTree(s, tiles, aside)
		p.Up()
		s.mustRelease(p, repo, "logged")
		size := p.Checkpoint().Size
		p.Kill()
		var owner unix.Stat_t
		if err := errors.Join(unix.Stat(tiles, &owner), os.RemoveAll(tiles), os.CopyFS(tiles, os.DirFS(aside))); err != nil {
			s.Fatal(err)
		}
		filepath.WalkDir(tiles, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, int(owner.Uid), int(owner.Gid)))
		})
		if err := p.TryUp(20 * time.Second); err != nil {
			p.Kill()
			why := lastLine(p.Log.String(), "the index has")
			if why == "" {
				s.Errorf("stopped for another reason: %v\n%s", err, p.Log)
			}
			return "", why
		}
		defer p.Kill()
		if got := p.Checkpoint().Size; got < size {
			return fmt.Sprintf("the log serves %d entries, and had %d", got, size), ""
		}
		return "", "the log still has all entries"
	},
})

var _ = register(attack{
	name: "trust-services-die", tries: "stop the log, the timestamp authority and the CA during a release, to get a tag without proof",
	guard: "tags come last, after an independent verification, and a role that dies is restarted: release verifyAsStranger, platform/zone Supervise",
	cuts: []cut{{"platform/release/proofs.go", "	if v.Outcome != verify.Accepted {\n		return &api.Error{Message: fmt.Sprintf(\"the released", "	if false {\n		return &api.Error{Message: fmt.Sprintf(\"the released"}, {"platform/release/release.go", `	if err := g.Wait(); err != nil {
		return err
	}
	j.resumed`, `	g.Wait()
	j.resumed`}, {"platform/release/release.go", `g, gctx := errgroup.WithContext(ctx)`, `g, gctx := &errgroup.Group{}, ctx`}},
	beside: func(s *scene) (string, string) {
		// It mostly waits, so the two ways to stop them go on beside each other.
		signals := map[syscall.Signal]*harness.Platform{syscall.SIGKILL: s.platform("step"), syscall.SIGSTOP: s.platform("stopped")}
		var mu sync.Mutex
		var got string
		how := map[string]int{}
		var both sync.WaitGroup
		for signal, p := range signals {
			both.Go(func() {
				for n, phase := range []string{"measure", "push", "sbom", "sign", "verify"} {
					broken, end := s.stopTrust(p, signal, n, phase)
					mu.Lock()
					how[end]++
					got = cmp.Or(got, broken)
					mu.Unlock()
					if broken != "" {
						return
					}
				}
			})
		}
		both.Wait()
		return got, fmt.Sprint(how)
	},
})

// stopTrust stops the trust services with a signal when a release enters the phase. It returns
// what an attacker got, or how the release ended.
func (s *scene) stopTrust(p *harness.Platform, signal syscall.Signal, n int, phase string) (got, end string) {
	repo := s.repository(map[string]string{"Dockerfile": fmt.Sprintf("FROM scratch\nCOPY Dockerfile /%d-%d\n", n, signal)})
	image := fmt.Sprintf("interrupted-%d-%d", n, signal)
	pid := p.Role("trust")
	if pid == 0 {
		s.Fatal("the role trust has no process")
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	var again sync.WaitGroup
	_, err := s.interrupted(ctx, p, repo, image, phase, func() {
		time.AfterFunc(6*time.Second, cancel)
		syscall.Kill(pid, signal)
		if signal == syscall.SIGKILL {
			again.Go(func() { s.killAgain(ctx, p) })
		}
	})
	cancel()
	syscall.Kill(pid, syscall.SIGCONT)
	again.Wait()
	defer s.awaitReady(p)
	if code, _ := s.put(p, http.MethodGet, "/v2/"+image+"/manifests/v1.0.0", "", "", nil); code == http.StatusOK {
		if code, out := s.awaitVerify(p, p.Addr+"/"+image+":v1.0.0", "file://"+repo); code != 0 {
			return fmt.Sprintf("killed at %s (signal %d), the tag does not verify:\n%s", phase, signal, out), ""
		}
		return "", "released after a retry"
	}
	if err == nil {
		return "a release without a tag succeeded", ""
	}
	return "", "no tag"
}

// killAgain kills the trust services twice more, as soon as they answer, to interrupt
// the retries of whoever waited for them.
func (s *scene) killAgain(ctx context.Context, p *harness.Platform) {
	for range 2 {
		for ready := false; !ready && ctx.Err() == nil; {
			resp, err := http.Get(p.URL + "/signing_config.json")
			if ready = err == nil && resp.StatusCode == http.StatusOK; err == nil {
				resp.Body.Close()
			}
		}
		if pid := p.Role("trust"); pid != 0 && ctx.Err() == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// interrupted is like release, and calls f once when the release enters the phase.
func (s *scene) interrupted(ctx context.Context, p *harness.Platform, repo, image, phase string, f func()) (*api.Release, error) {
	s.Helper()
	c, err := api.ReadConfig(filepath.Join(p.Data, "client.json"))
	if err != nil {
		s.Fatal(err)
	}
	done := false
	r, err := c.Release(ctx, api.ReleaseRequest{Source: "file://" + repo, Ref: "v1.0.0", Image: p.Addr + "/" + image}, func(e api.Event) {
		if e.Phase == phase && !done {
			done = true
			f()
		}
	})
	if !done && err == nil {
		s.Fatalf("the release never entered the phase %s", phase)
	}
	return r, err
}

// awaitReady waits until the platform's roles are up again.
func (s *scene) awaitReady(p *harness.Platform) {
	s.Helper()
	await.True(s, "the platform comes back", func() bool {
		code, _ := s.put(p, http.MethodGet, "/readyz", "", "", nil)
		return code == http.StatusOK
	})
}

// awaitVerify verifies after the platform has recovered: "undecided" does not mean that there is no proof.
func (s *scene) awaitVerify(p *harness.Platform, ref, source string) (int, string) {
	s.Helper()
	s.awaitReady(p)
	return s.verify(p, ref, "--source", source)
}

// lastLine returns the last line of a log that contains word.
func lastLine(log, word string) (found string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, word) {
			found = strings.TrimSpace(line)
		}
	}
	return found
}
