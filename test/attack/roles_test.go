package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/api"
)

// These attacks come from a role that an attacker has taken over, with its user and its
// view of the disk, or from a person with an account on the host.
var hostileRoles = []string{"builder", "registry", "api", "person"}

// tracers are also the roles that may command others: not even they may trace them.
var tracers = append(slices.Clone(hostileRoles), "attestor", "trust")

// fromRole runs the intruder as a role of the platform.
func (s *scene) fromRole(role string, only ...string) []report {
	s.Helper()
	p := s.platform("step")
	path := filepath.Join(s.TempDir(), "intruder")
	b := s.briefing(p, only)
	b.Roles = map[string]int{}
	for _, r := range []string{"trust", "attestor", "builder", "registry", "rooms", "api"} {
		if b.Roles[r] = p.Role(r); b.Roles[r] == 0 {
			s.Fatalf("the platform has no process of the role %s", r)
		}
	}
	if err := equip(path, b); err != nil {
		s.Fatal(err)
	}
	program, err := os.Open(path)
	if err != nil {
		s.Fatal(err)
	}
	defer program.Close()
	cred := &syscall.Credential{Uid: 65534, Gid: 65534}
	// Use the mounts of this thread for a person with an account: the first thread of
	// the process may still be in the namespace of another role.
	mounts := "/proc/thread-self/ns/mnt"
	if role != "person" {
		pid := b.Roles[role]
		mounts = fmt.Sprintf("/proc/%d/ns/mnt", pid)
		var run unix.Stat_t // roles have the group of the sockets' directory
		if err := unix.Stat(filepath.Join(p.Data, "run"), &run); err != nil {
			s.Fatal(err)
		}
		uid, gid := credentials(s, pid)
		cred = &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{run.Gid}}
	}
	ns, err := os.Open(mounts)
	if err != nil {
		s.Fatal(err)
	}
	defer ns.Close()
	var out bytes.Buffer
	done := make(chan error)
	go func() {
		// Never unlock the thread: it is in another namespace, and ends with this goroutine.
		runtime.LockOSThread()
		cmd := exec.Command("/proc/self/fd/3")
		cmd.Args = []string{"intruder", "role", role}
		cmd.ExtraFiles = []*os.File{program}
		cmd.Dir = "/"
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = cmd.Run()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.Fatalf("the intruder as %s: %v\n%s", role, err, out.String())
	}
	return s.reports(out.String())
}

// credentials returns the user and the group of a process.
func credentials(s *scene, pid int) (uid, gid uint32) {
	s.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fmt.Sscanf(line, "Uid:\t%d", &uid)
		fmt.Sscanf(line, "Gid:\t%d", &gid)
	}
	return uid, gid
}

const (
	usersFile = "platform/users.go"
	dataFile  = "platform/data.go"
	peerFile  = "internal/peer/peer.go"
)

var (
	// cutRoleUsers makes all roles run as one user, except for the door, whose requests must
	// name a role.
	cutRoleUsers = cut{usersFile, `u.byRole[r.name] = base + r.user`, `u.byRole[r.name] = base + 1 + map[bool]int{true: 1}[r.name == roleDoor]`}
	// cutZones also shows each role the directories of all others.
	cutZones = []cut{cutRoleUsers, {dataFile, `for _, name := range r.dirs {
		z.Mounts`, `for _, name := range []string{"trust", "log", "ct", "registry", "rooms", "builder", "attestor", "gateway", "sums"} {
		z.Mounts`}}
)

// ask sends a request to a role's socket by each path to it. The attack succeeds if the
// role does not refuse the request.
func (i *intruder) ask(role, method, path, body string) {
	for _, s := range i.Sockets {
		if filepath.Base(s) != role+".sock" {
			continue
		}
		for _, socket := range []string{s, "/run/colophon-zone/run/" + role + ".sock"} {
			c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
			req, _ := http.NewRequest(method, "http://"+role+path, strings.NewReader(body))
			resp, err := c.Do(req)
			if err != nil {
				i.not("%s: %v", role, err)
				continue
			}
			answer := make([]byte, 4096)
			n, _ := resp.Body.Read(answer)
			resp.Body.Close()
			if resp.StatusCode == http.StatusForbidden {
				i.not("%s: %s", role, bytes.TrimSpace(answer[:n]))
				continue
			}
			i.got("%s answers %s: %s", role, resp.Status, bytes.TrimSpace(answer[:n]))
		}
	}
}

var _ = register(attack{
	name: "keys-of-another-role", tries: "read keys, tokens and files of other roles",
	guard: "each role has its own user and private directories, and sees no other role's: platform/zone ChownTree, platform zone",
	cuts:  cutZones,
	from:  hostileRoles,
	probe: func(i *intruder) {
		for _, k := range append(i.Keys, i.Private...) {
			zone := "/run/colophon-zone/" + filepath.Base(filepath.Dir(k)) + "/" + filepath.Base(k)
			for _, p := range append([]string{k, zone}, i.throughRoles(k)...) {
				data, err := os.ReadFile(p)
				if err == nil && k != "/etc/shadow" {
					i.got("%s: %s", p, data)
				} else if err != nil {
					i.not("%s: %v", p, err)
				}
			}
		}
	},
})

// throughRoles returns a path as the other roles see it.
func (i *intruder) throughRoles(path string) (out []string) {
	for _, pid := range i.Roles {
		out = append(out, fmt.Sprintf("/proc/%d/root%s", pid, path), fmt.Sprintf("/proc/%d/cwd/%s/%s", pid, filepath.Base(filepath.Dir(path)), filepath.Base(path)))
	}
	return out
}

var _ = register(attack{
	name: "files-of-another-role", tries: "change files of registry, log, attestor or trust services, or replace their sockets",
	guard: "each role has its own user, sees no other role's directories, and sees the rest of the disk read-only: platform/zone ChownTree, mount, platform zone",
	cuts:  cutZones,
	from:  hostileRoles,
	probe: func(i *intruder) {
		for _, dir := range []string{"trust", "log", "ct", "attestor", "run", "rooms", "gateway", "sums", "registry", "builder", "index", "archivelog", "archiveindex", "search", "audit", "changes"} {
			if dir == i.where {
				continue
			}
			for _, path := range []string{filepath.Join(i.Data, dir, "evil"), "/run/colophon-zone/" + dir + "/evil"} {
				i.try("wrote "+path, os.WriteFile(path, []byte("x"), 0o600))
			}
		}
		for _, s := range i.Sockets {
			i.try("removed "+s, os.Remove(s))
			if strings.Contains(s, "trust") {
				_, err := net.Listen("unix", filepath.Join(filepath.Dir(s), "evil.sock"))
				i.try("listens beside "+s, err)
			}
		}
	},
})

var _ = register(attack{
	name: "mint-a-token", tries: "get the token from the issuer that the attestor signs with",
	guard: "the issuer gives tokens only to the attestor's user: platform runTrust",
	cuts:  []cut{{"platform/role_trust.go", `peer.Allow(tokens.Tokens(), roleAttestor)`, `tokens.Tokens()`}},
	from:  hostileRoles,
	probe: func(i *intruder) {
		origin := "http://" + i.Platform
		claims, _ := json.Marshal(map[string]string{
			"builder_id": origin + "/builders/buildkit/v1", "runner_environment": "self-hosted", "source_uri": "https://git.example.com/evil",
			"source_digest": strings.Repeat("e", 40), "source_ref": "refs/tags/v1.0.0", "build_trigger": "release", "invocation_uri": origin + api.PathReleases + "/x", "parameters_digest": "sha256:" + strings.Repeat("e", 64),
		})
		i.ask("trust", http.MethodPost, "/token", string(claims))
	},
})

var _ = register(attack{
	name: "command-the-attestor", tries: "request a release from the attestor without the API and its tokens",
	guard: "the attestor accepts requests only from the API's user: platform runAttestor",
	cuts:  []cut{{"platform/role_attestor.go", `peer.Allow(service.Handler(), roleAPI)`, `service.Handler()`}},
	from:  []string{"builder", "registry", "person"},
	probe: func(i *intruder) {
		i.ask("attestor", http.MethodPost, api.PathReleases, `{"source":"file:///","ref":"v1.0.0","image":"x/y","recipe":{}}`)
	},
})

var _ = register(attack{
	name: "choose-the-network", tries: "start a session of a room, to choose what its gateway allows and records",
	guard: "only the attestor may start sessions: platform/builder/rooms Handler",
	cuts:  []cut{{"platform/builder/rooms/rooms.go", `		mux.Handle(pattern, peer.Allow(h, "attestor"))`, `		mux.Handle(pattern, h)`}},
	from:  hostileRoles,
	probe: func(i *intruder) { i.ask("rooms", http.MethodPost, "/sessions", `{}`) },
})

var _ = register(attack{
	name: "drive-a-build", tries: "open a room, or have a recipe and tree of its choice built in one",
	guard: "only the attestor starts builds, and only their drivers, which rooms starts, open rooms: platform/builder/worker Register, platform/builder/rooms Handler",
	cuts: []cut{{"platform/builder/worker/worker.go", `		s.build(w, r)
	}), "attestor"))`, `		s.build(w, r)
	}), "attestor", "builder"))`}, {"platform/builder/rooms/rooms.go", `		mux.Handle(pattern, peer.Allow(h, "driver"))`, `		mux.Handle(pattern, h)`}},
	from: hostileRoles,
	probe: func(i *intruder) {
		i.ask("rooms", http.MethodPost, "/build", "J")
		i.ask("rooms", http.MethodPost, "/sessions/x/room", "{}")
		i.ask("rooms", http.MethodPost, "/sessions/x/dial", "")
	},
})

var _ = register(attack{
	name: "command-the-builder", tries: "make the builder build and the registry store without attestor and API",
	guard: "only roles can enter the directory of the sockets, and each socket accepts only the roles that need it: internal/owned Dir, platform giveDirs, internal/peer Listen, Serve, Allow",
	cuts: []cut{{"internal/owned/owned.go", `os.Mkdir(next, 0o700)`, `os.Mkdir(next, 0o755)`}, {dataFile, `os.Chmod(p.dir("run"), 0o710)`, `os.Chmod(p.dir("run"), 0o755)`},
		{peerFile, `os.Chmod(name, 0o660)`, `os.Chmod(name, 0o666)`}, {peerFile, `case len(rolesOf(r)) == 0:`, `case false:`},
		{peerFile, `		http.Error(w, fmt.Sprintf("only %v may ask for %s", roles, r.URL.Path), http.StatusForbidden)`, `		h.ServeHTTP(w, r)`}},
	from: []string{"person"},
	probe: func(i *intruder) {
		i.ask("builder", http.MethodPost, "/build", "J")
		i.ask("registry", http.MethodPost, "/v2/x/blobs/uploads/", "")
		i.ask("rooms", http.MethodPost, "/sessions/x/room", "{}")
	},
})

var _ = register(attack{
	name: "trace-another-role", tries: "trace other roles, read their memory and environment, kill them",
	guard: "each role has its own user, and forbids ptrace: platform/zone enter, internal/confine Role",
	cuts:  []cut{cutRoleUsers, {"internal/confine/confine.go", `unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)`, `unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)`}},
	from:  tracers,
	probe: func(i *intruder) {
		for role, pid := range i.Roles {
			if role == i.where {
				continue
			}
			i.try("traced "+role, unix.PtraceSeize(pid))
			for _, f := range []string{"mem", "environ", "maps"} {
				h, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, f))
				if err == nil {
					_, err = h.Read(make([]byte, 1))
					h.Close()
				}
				i.try("read "+f+" of "+role, err)
			}
			i.try("signalled "+role, unix.Kill(pid, 0))
		}
	},
})
