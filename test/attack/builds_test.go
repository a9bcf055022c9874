package attack

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// build releases a Dockerfile with these lines after FROM debian, whose image is
// empty. It returns the output of the steps, and the error.
func (s *scene) build(p *harness.Platform, image string, lines ...string) (string, error) {
	s.Helper()
	lines = append(append([]string{"FROM debian:bookworm-slim AS attack"}, lines...), "RUN touch /done", "FROM scratch", "COPY --from=attack /done /done")
	_, said, err := s.release(p, s.repository(map[string]string{"Dockerfile": strings.Join(lines, "\n") + "\n"}), image)
	return said, err
}

// exhaust runs a build that exhausts a resource. Its steps print boom if they succeed.
// Otherwise the build must fail with one of the words in want ("one|other"), and the
// platform must still work.
func (s *scene) exhaust(boom, want string, lines ...string) (through, stopped string) {
	s.Helper()
	p := s.platform("small")
	said, err := s.build(p, "bomb", lines...)
	if strings.Contains(said, boom) {
		return "the step printed " + boom, ""
	}
	resp, herr := (&http.Client{Timeout: await.Patience}).Get(p.URL + "/readyz")
	if herr != nil {
		return fmt.Sprintf("the platform does not answer any more: %v", herr), ""
	}
	resp.Body.Close()
	if err == nil || !slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
		s.Errorf("build: got %v, want %q\n%s", err, want, said)
	}
	if _, err := s.build(p, "calm-"+strings.ToLower(rand.Text())); err != nil {
		return fmt.Sprintf("the next build fails: %v", err), ""
	}
	return "", fmt.Sprint(err)
}

const (
	cgroupFile = "platform/builder/sandbox/cgroup.go"
	solveFile  = "platform/builder/buildkit/solve.go"
)

var _ = register(attack{
	name: "memory-bomb", tries: "take all memory of the machine",
	guard: "the cgroup of the room limits it: platform/builder/sandbox newCgroup",
	cuts: []cut{{cgroupFile, `res.Memory.Limit = &l.Memory`, `_ = l.Memory`},
		{cgroupFile, `if err != nil || got > l.Memory {`, `if err != nil {`}},
	beside: func(s *scene) (string, string) {
		return s.exhaust("ate 1024 MiB", "out of memory", `RUN perl -e 'for (1..1024) { push @a, "x" x (1<<20) } print "ate ".@a." MiB\n"'`)
	},
})

// cutDisk gives every room the same large disk, whatever its limit.
var cutDisk = cut{"platform/builder/sandbox/disk.go", `	size = size / 4096 * 4096
`, `	size = 8 << 30
`}

var _ = register(attack{
	name: "disk-bomb", tries: "fill the disk of the machine",
	guard: "the file system of a room has a fixed size: platform/builder/sandbox newDisk",
	cuts:  []cut{cutDisk},
	beside: func(s *scene) (string, string) {
		return s.exhaust("took 700 MiB", "disk full|exit code: 1", `RUN fallocate -l 700M /big && echo took 700 MiB`)
	},
})

var _ = register(attack{
	name: "file-bomb", tries: "use up the inodes of the disk",
	guard: "the file system of a room has inodes in proportion to its size: platform/builder/sandbox newDisk",
	cuts:  []cut{cutDisk},
	beside: func(s *scene) (string, string) {
		return s.exhaust("made 200000 files", "disk full|exit code: 1", `RUN perl -e 'mkdir "/n"; for (1..200000) { open(F, ">", "/n/$_") or exit 1; close F } print "made 200000 files\n"'`)
	},
})

var _ = register(attack{
	name: "fork-bomb", tries: "take all processes of the machine",
	guard: "the cgroup of the room limits it: platform/builder/sandbox newCgroup",
	cuts: []cut{{cgroupFile, `res.Pids.Limit = &l.PIDs`, `_ = l.PIDs`},
		{cgroupFile, `if err != nil || got > l.PIDs {`, `if false && got > l.PIDs {`}},
	beside: func(s *scene) (string, string) {
		return s.exhaust("forked 1000", "too many processes", `RUN perl -e 'for (1..1000) { my $p = fork; last unless defined $p; if (!$p) { sleep 8; exit } $n++ } print "forked $n\n"; kill 9, -1'`)
	},
})

var _ = register(attack{
	name: "endless-build", tries: "occupy a room for ever",
	guard: "a build has a time limit: platform/builder/buildkit Build",
	cuts:  []cut{{"platform/builder/buildkit/buildkit.go", `wall := lower(req.Limits.WallTime, b.cfg.WallTime)`, `wall := time.Hour`}},
	beside: func(s *scene) (string, string) {
		return s.exhaust("still here", "exceeded its time limit of 15s", `RUN trap "" TERM INT HUP; sleep 20; echo still here`)
	},
})

var _ = register(attack{
	name: "daemon-left-behind", tries: "leave a process running for the next build",
	guard: "a room ends with its build: platform/builder/sandbox Kill, removeCgroup",
	cuts:  append(slices.Clone(cutProcesses), cutContainers, cut{cgroupFile, `os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil`, `true`}),
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		mark := "attack-" + rand.Text()
		said, err := s.build(p, "daemon", `RUN cp /bin/sleep /bin/`+mark+` && (setsid nohup /bin/`+mark+` 600 </dev/null >/dev/null 2>&1 &) ; (setsid setsid /bin/`+mark+` 601 >/dev/null 2>&1 &) ; sleep 0.2; echo left`)
		if !strings.Contains(said, "left") {
			s.Fatalf("the step did not run: %v\n%s", err, said)
		}
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, c := range procs {
			if data, err := os.ReadFile(c); err == nil && strings.Contains(string(data), mark) {
				return c + " lives on", ""
			}
		}
		return "", "no process of the build is left"
	},
})

var _ = register(attack{
	name: "poisoned-cache", tries: "leave files in caches that the next build uses",
	guard: "each build starts with empty caches: platform/builder/sandbox makeRoomDir, newDisk",
	cuts: append(slices.Clone(cutUsers), cut{"platform/builder/sandbox/mounts.go", `fd, err := unix.FcntlInt(state.mount.Fd(), unix.F_DUPFD_CLOEXEC, 0)`, `shared := filepath.Join(state.dir, "../shared")
		os.MkdirAll(shared+"/tmp", 0o700)
		fd, err := unix.OpenTree(unix.AT_FDCWD, shared, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)`}),
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		poison := "poison-" + rand.Text()
		mounts := `--mount=type=cache,id=shared,target=/cache --mount=type=cache,id=go,target=/root/go`
		said, err := s.build(p, "poisoner", `RUN `+mounts+` echo `+poison+` | tee /cache/x /root/go/x /tmp/x /var/tmp/x`)
		if err != nil || !strings.Contains(said, poison) {
			s.Fatalf("the poisoner: %v\n%s", err, said)
		}
		said, err = s.build(p, "victim", `RUN `+mounts+` grep -r "" /cache /root/go /tmp /var/tmp; echo looked`)
		if err != nil || !strings.Contains(said, "looked") {
			s.Fatalf("the victim: %v\n%s", err, said)
		}
		if strings.Contains(said, poison) {
			return "the next build sees it", ""
		}
		// The same step runs again, and is not taken from a cache.
		first, err1 := s.build(p, "same-a", `RUN cat /proc/sys/kernel/random/uuid`)
		second, err2 := s.build(p, "same-b", `RUN cat /proc/sys/kernel/random/uuid`)
		if err1 != nil || err2 != nil {
			s.Fatalf("%v, %v", err1, err2)
		}
		if uuid(first) == uuid(second) {
			return "a step was not run again", ""
		}
		return "", "both caches were empty, and the same step ran again"
	},
})

var _ = register(attack{
	name: "kept-cache", tries: "change the release of a branch through the cache mounts that a feature branch keeps",
	guard: "the attest zone names the branch whose cache mounts a build gets: platform/release cacheScope",
	cuts:  []cut{{"platform/release/caches.go", `Ref: j.commit.Ref, Image: j.req.Image, Recipe: j.recipe}`, `Image: j.req.Image, Recipe: j.recipe}`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		poison := "poison-" + rand.Text()
		mount := "FROM debian:bookworm-slim\nRUN --mount=type=cache,target=/cache "
		repo := s.repository(map[string]string{"Dockerfile": mount + "echo found: $(cat /cache/x)\n"})
		branch := func(ref string) string {
			_, said, err := s.release(p, repo, "kept", func(r *api.ReleaseRequest) { r.Ref, r.CacheMounts = ref, true })
			if err != nil || !strings.Contains(said, "found:") && !strings.Contains(said, poison) {
				s.Fatalf("release of %s: %v\n%s", ref, err, said)
			}
			return said
		}
		gittest.Git(s, repo, "branch", "release")
		gittest.Git(s, repo, "checkout", "-q", "-b", "feature")
		harness.Write(s, repo, map[string]string{"Dockerfile": mount + "echo " + poison + " | tee /cache/x\n"})
		gittest.Git(s, repo, "commit", "-q", "-a", "-m", "poison")
		branch("feature")
		if strings.Contains(branch("release"), "found: poison") {
			return "the other branch found it", ""
		}
		harness.Write(s, repo, map[string]string{"Dockerfile": mount + "echo found: $(cat /cache/x)\n"})
		gittest.Git(s, repo, "commit", "-q", "-a", "-m", "look")
		if !strings.Contains(branch("feature"), "found: poison") {
			s.Fatal("the feature branch itself does not find it, so nothing was tried")
		}
		return "", "only the branch itself found it"
	},
})

func uuid(said string) string {
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); len(line) == 36 && strings.Count(line, "-") == 4 {
			return line
		}
	}
	return ""
}

var _ = register(attack{
	name: "another-builds-files", tries: "read the files, memory and sockets of a concurrent build",
	guard: "each room has its own namespaces and users: platform/builder/sandbox takeSlot, Cloneflags",
	cuts:  append(slices.Clone(cutProcesses), cutContainers),
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		secret := "other-" + rand.Text()
		// The other build reports when its files exist, and then waits in a shell with the
		// secret in its arguments.
		there := make(chan struct{})
		s.world.page("/there", func(w http.ResponseWriter, _ *http.Request) { close(there) })
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		other := s.repository(map[string]string{"Dockerfile": "FROM debian:bookworm-slim\n" +
			`RUN echo ` + secret + ` | tee /secret /tmp/secret /dev/shm/secret /var/tmp/secret` + "\nADD http://" + worldAddress + "/there /there\nRUN SECRET=" + secret + ` sleep 60; true` + "\n"})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.releaseWith(ctx, p, other, "other")
		}()
		select {
		case <-there:
		case <-ended:
			s.Fatal("the other build ended early")
		}
		said, err := s.build(p, "spy", `RUN ls /proc; cat /proc/[0-9]*/environ | tr '\0' '\n'; cat /proc/[0-9]*/cmdline | tr '\0' ' '; grep -rs other- /secret /tmp /dev/shm /var/tmp /proc/[0-9]*/root/secret /proc/[0-9]*/cwd/secret; grep -c @ /proc/net/unix; echo looked`)
		if err != nil || !strings.Contains(said, "looked") {
			s.Fatalf("the spy: %v\n%s", err, said)
		}
		select {
		case <-ended:
			s.Fatal("the other build ended before the spy ran")
		default:
		}
		cancel()
		<-ended
		if strings.Contains(said, secret) {
			return "it read the other build's secret", ""
		}
		return "", "the spy found nothing of the other build"
	},
})

var _ = register(attack{
	name: "claimed-commit", tries: "claim another commit in labels, arguments, files and a provenance inside the image",
	guard: "the attestor names only the commit that it fetched: release provenance",
	cuts: []cut{{buildFile, `	a.Config["sourceDateEpoch"] =`, `	var image struct{ Config struct{ Labels map[string]string } }
	json.Unmarshal(m.Platforms[0].ConfigRaw, &image)
	if id := image.Config.Labels["org.opencontainers.image.revision"]; id != "" {
		j.commit.ID = id
	}
	a.Config["sourceDateEpoch"] =`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		other := strings.Repeat("e", 40)
		repo := s.repository(map[string]string{"Dockerfile": strings.Join([]string{
			"FROM debian:bookworm-slim AS attack",
			`RUN printf '{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"externalParameters":{"source":{"commit":"` + other + `"}}}}}' > /provenance.json`,
			"FROM scratch",
			"ARG SOURCE_COMMIT=" + other,
			"ARG BUILDKIT_SBOM_SCAN_STAGE=true",
			"LABEL org.opencontainers.image.revision=" + other + " org.opencontainers.image.source=https://git.example.com/other build.colophon.commit=" + other,
			"COPY --from=attack /provenance.json /provenance.json",
			"COPY --from=attack /provenance.json /attestations/provenance.json",
		}, "\n") + "\n"})
		r, said, err := s.release(p, repo, "claims")
		if err != nil {
			return "", brief([]string{err.Error()})
		}
		head := gittest.Git(s, repo, "rev-parse", "HEAD")
		if r.Source.ID != head {
			return "the release names the commit " + r.Source.ID, ""
		}
		if code, out := s.verify(p, p.Addr+"/claims@"+r.Digest, "--source", "https://git.example.com/other"); code == 0 {
			return "verify accepts it from another source: " + out, ""
		}
		if code, out := s.verify(p, p.Addr+"/claims@"+r.Digest, "--source", "file://"+repo); code != 0 || !strings.Contains(out, head[:7]) {
			s.Errorf("verify with the true source: exit code %d\n%s\n%s", code, out, said)
		}
		// Tools that look for BuildKit's attestations would read a manifest beside the image.
		if index := string(p.Get("/v2/claims/manifests/" + r.Digest)); strings.Contains(index, "attestation-manifest") {
			return "the index contains an attestation of BuildKit", ""
		}
		return "", "the certificate and the provenance name " + head[:7]
	},
})

var _ = register(attack{
	name: "secret-mounts", tries: "get secrets, ssh keys, privileges or the host's network through the Dockerfile",
	guard: "builds get no entitlement, secret or agent: platform/builder/buildkit options, daemonConfig",
	cuts: []cut{{"platform/builder/buildkit/room.go", `insecure-entitlements = []`, `insecure-entitlements = ["network.host", "security.insecure"]`},
		{solveFile, `		ProxyNetwork:  true,
`, `		ProxyNetwork:  true,
		AllowedEntitlements: []string{"network.host", "security.insecure"},
`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		var stopped []string
		for _, line := range []string{
			`RUN --security=insecure mount -t tmpfs x /mnt`, `RUN --network=host cat /proc/net/tcp; echo got; exit 0`, `RUN --mount=type=ssh,required=true ls -l $SSH_AUTH_SOCK`, `RUN --mount=type=secret,id=client.json,required=true cat /run/secrets/client.json`,
			`RUN --device=/dev/kmsg test -e /dev/kmsg`, "# syntax=evil/frontend\nRUN true",
		} {
			dockerfile := "FROM debian:bookworm-slim\n" + line + "\n"
			if strings.HasPrefix(line, "#") {
				dockerfile = strings.Replace(line, "RUN", "FROM debian:bookworm-slim\nRUN", 1) + "\n"
			}
			_, said, err := s.release(p, s.repository(map[string]string{"Dockerfile": dockerfile}), "privileged")
			if err == nil {
				return line + " was built:\n" + said, ""
			}
			stopped = append(stopped, err.Error())
		}
		return "", brief(stopped)
	},
})

var _ = register(attack{
	name: "links-in-the-source", tries: "make the platform read files of the host through links in the source or the output",
	guard: "links are kept as links, nobody follows one out of the tree, and all files are compared with the commit's tree: source export, platform/builder/worker packTree",
	cuts: []cut{{"platform/builder/worker/tree.go", `info, err := d.Info()`, `info, err := os.Stat(filepath.Join(dir, name))`},
		{"platform/builder/worker/tree.go", `f, err := root.Open(name)`, `f, err := os.Open(filepath.Join(dir, name))`},
		{"platform/builder/worker/tree.go", `err = hash.Check()`, `_ = hash.Check()`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		leaked := func(said string, err error) string {
			if strings.Contains(said+fmt.Sprint(err), s.secrets["the canary file"]) {
				return "the build read a file of the host"
			}
			return s.inRegistry(p, s.secrets["the canary file"])
		}
		// Links in the output, which nobody who unpacks the image may follow.
		_, said, err := s.release(p, s.repository(map[string]string{"Dockerfile": strings.Join([]string{
			"FROM debian:bookworm-slim AS attack",
			"RUN mkdir /o && ln -s " + s.canary + " /o/file && ln -s " + s.dir + " /o/dir && ln -s / /o/root && echo x > /o/a && ln /o/a /o/hard",
			"FROM scratch", "COPY --from=attack /o /o",
		}, "\n") + "\n"}), "links-"+strings.ToLower(rand.Text()))
		if err != nil {
			s.Fatalf("links in the output: %v\n%s", err, said)
		}
		if evidence := leaked(said, err); evidence != "" {
			return evidence, ""
		}
		_, said, err = s.release(p, s.repository(map[string]string{"Dockerfile": "FROM debian:bookworm-slim AS attack\nRUN ln -s / /root-of-all\nFROM scratch\nCOPY --from=attack /root-of-all" + s.canary + " /got\n"}), "links-"+strings.ToLower(rand.Text()))
		if evidence := leaked(said, err); evidence != "" || err == nil {
			return "a copy through a link read it: " + evidence, ""
		}
		// Links in the source, to a file of the attestor and to files of the host.
		kept := filepath.Join(p.Data, "attestor", "records", "canary")
		if err := copyFile(kept, s.canary); err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { os.Remove(kept) })
		var stopped []string
		for _, to := range []string{attestorDir + "/records/canary", s.canary, s.dir, strings.Repeat("../", 12) + s.dir[1:]} {
			dir := filepath.Join(s.TempDir(), "app")
			harness.Write(s, dir, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nCOPY . /src\nRUN cat /src/link /src/link/canary; true\n"})
			if err := os.Symlink(to, filepath.Join(dir, "link")); err != nil {
				s.Fatal(err)
			}
			_, said, err := s.release(p, s.commit(dir), "links-"+strings.ToLower(rand.Text()))
			if evidence := leaked(said, err); evidence != "" {
				return evidence, ""
			}
			if err != nil {
				s.Errorf("a link in the source to %s: %v\n%s", to, err, said)
			}
			stopped = append(stopped, "released with the link to "+to)
		}
		return "", brief(stopped)
	},
})

// inRegistry looks for a secret in everything that was pushed.
func (s *scene) inRegistry(p *harness.Platform, secret string) (found string) {
	filepath.WalkDir(filepath.Join(p.Data, "registry"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, err := os.ReadFile(path); err == nil && strings.Contains(string(unpacked(data)), secret) {
				found = path + " has it"
			}
		}
		return nil
	})
	return found
}

var _ = register(attack{
	name: "recipe-leaves-the-tree", tries: "build a Dockerfile or a context outside the tree, or set options of BuildKit",
	guard: "a recipe contains only a clean path inside the tree and build arguments: attest Check; nothing outside the tree is opened or sent: platform/builder/buildkit readDockerfile, options",
	cuts: []cut{{"attest/recipe.go", `if f := r.Dockerfile; f != "" && (path.Clean(f)`, `if f := r.Dockerfile; false && (path.Clean(f)`}, {"attest/recipe.go", `strings.HasPrefix(k, "BUILDKIT_") ||`, `false ||`},
		{solveFile, `text, err := readDockerfile(tree.root, file)`, `file = filepath.Join(req.Tree, file)
	var text []byte
	dockerfile, err := fsutil.NewFS(filepath.Dir(file))`},
		{solveFile, `	"os"
`, `	"os"
	"path/filepath"
`},
		{solveFile, `attrs["filename"] = file`, `attrs["filename"] = filepath.Base(file)`},
		{solveFile, `"dockerfile": tree}`, `"dockerfile": dockerfile}`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		repo := filepath.Join(s.TempDir(), "app")
		harness.Write(s, repo, map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n"})
		if err := os.Symlink("/etc", filepath.Join(repo, "host")); err != nil {
			s.Fatal(err)
		}
		s.commit(repo)
		var stopped []string
		for _, change := range []func(*api.ReleaseRequest){
			func(r *api.ReleaseRequest) { r.Recipe.Dockerfile = "../../../../../../../../etc/passwd" },
			func(r *api.ReleaseRequest) {
				r.Recipe.BuildArgs = map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}
			},
			func(r *api.ReleaseRequest) {
				r.Recipe.Context, r.Recipe.Dockerfile = "../../../../../../../../etc", "Dockerfile"
			},
			func(r *api.ReleaseRequest) { r.Recipe.Context, r.Recipe.Dockerfile = "/etc", "Dockerfile" },
			func(r *api.ReleaseRequest) { r.Recipe.Context, r.Recipe.Dockerfile = "host", "Dockerfile" },
		} {
			_, said, err := s.release(p, repo, "recipe", change)
			if err == nil {
				return "it was built", ""
			}
			if strings.Contains(err.Error()+said, "root:x:") {
				return "it read a file of the host: " + err.Error(), ""
			}
			if !strings.Contains(err.Error(), "dockerfile") && !strings.Contains(err.Error(), "context") && !strings.Contains(err.Error(), "build argument") {
				return fmt.Sprintf("the platform went as far as %v", err), ""
			}
			stopped = append(stopped, err.Error())
		}
		return "", brief(stopped)
	},
})

var _ = register(attack{
	name: "hidden-fetch", tries: "have the build's own record list less than it downloaded",
	guard: "the gateway's record decides, and a build that reports less is refused: platform/release/network Agree",
	unit:  "platform/release/network: TestAgree",
	cuts: []cut{{"platform/release/network/agree.go", `		default:
			return &Error{q.String(), describeClaim(claimed[q]), describe(nonEmpty(e.SHA256), true)}
`, `		default:
`}},
})

// post is a shell command that sends a POST through the room's proxy. BuildKit does
// not hash the answer.
const post = `bash -c 'p=${HTTP_PROXY#http://}; p=${p%/}; exec 3<>/dev/tcp/${p%:*}/${p##*:}; printf "POST http://world.test/ HTTP/1.1\r\nHost: world.test\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi" >&3; cat <&3; echo; echo posted'`

var _ = register(attack{
	name: "unlisted-fetch", tries: "download something whose digest BuildKit does not record",
	guard: "the gateway's record decides, with the digest of each answer: platform/release/network Fetched",
	cuts:  []cut{{"platform/release/dependencies.go", `return append(deps, rec.Fetched(images)...), nil`, `return deps, nil`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		image := "unlisted-" + strings.ToLower(rand.Text())
		said, err := s.build(p, image, "RUN "+post)
		if err != nil || !strings.Contains(said, "posted") || !strings.Contains(said, "the world") {
			s.Fatalf("the step fetched nothing: %v\n%s", err, said)
		}
		cmd := exec.Command(s.cli, "inspect", p.Addr+"/"+image+":v1.0.0", "--provenance")
		cmd.Env = p.Env()
		statement, err := cmd.Output()
		if err != nil {
			s.Fatalf("inspect: %v", err)
		}
		answer := sha256.Sum256([]byte("the world"))
		for _, want := range []string{`"http://world.test/"`, `"POST"`, hex.EncodeToString(answer[:])} {
			if !strings.Contains(string(statement), want) {
				return "the image was signed without " + want + " in a record of the download", ""
			}
		}
		return "", "the provenance has the address, the method and the digest of the answer"
	},
})
