package stories

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/forgehost"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
)

// commands returns the commands of scripts beyond those of testscript:
//
//	exits CODE COMMAND ARG…   run a program, which must exit with this code
//	fork FROM TO              copy an image with everything attached to another repository, under the same tag
//	gitserver DIR             serve the repositories below the directory over http on loopback, at $GIT
//	forgeserver DIR FILE REPO as gitserver, and answer with FILE as Gitea's API does: in it, BASE is the tag of that
//	                          name in REPO, HEAD its refs/pull/7/head, and RESULT its main
//	registry NAME:TAG…        put an image of random bytes under each name into a registry on loopback, at $REGISTRY
//	privatehost DIR [clients] serve the directory on a host that asks for logins, at $HOST and $OTHER (private_test.go)
//	sshserver FILE            run the stock ssh server, at $SSH, for who has a key of the file (ssh_test.go)
//	asked FILE                write what that host was asked to the file
//	revoke KIND               have that host refuse the secret of a kind
//	sealed PATH…              fail if a file contains a secret of that host
//	alone COMMAND ARG…        run a program in an empty network namespace, in which even loopback is down
//	spoil DIR                 change one byte of the largest blob of a layout
//	untag IMAGE               remove a tag, as an admin may
//	tamper WHAT IMAGE         change layer or manifest in the registry's files, or replace the signature,
//	                          provenance, sbom, log-proof, timestamp or subject in its attestations
//	detach KIND IMAGE         remove the attestations of one predicate type
//	expire FILE               set the end of the certificate authority's validity in a trust document to the past
func commands(p *harness.Platform) map[string]func(*testscript.TestScript, bool, []string) {
	must := func(f func(ts *testscript.TestScript, args []string) error, n int) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < n {
				ts.Fatalf("usage: see commands_test.go")
			}
			ts.Check(f(ts, args))
		}
	}
	s := &sabotage{p}
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":       must(exits, 2),
		"fork":        must(func(ts *testscript.TestScript, a []string) error { return s.fork(a[0], a[1]) }, 2),
		"gitserver":   must(gitserver, 1),
		"fileserver":  must(fileserver, 1),
		"forgeserver": must(forgeserver, 3),
		"registry":    must(openRegistry, 1),
		"privatehost": must(s.openPrivate, 1),
		"sshserver":   must(s.openSSH, 1),
		"asked":       must(asked, 1),
		"revoke":      must(revoke, 1),
		"sealed":      must(sealed, 1),
		"alone":       alone,
		"spoil":       must(func(ts *testscript.TestScript, a []string) error { return spoil(ts.MkAbs(a[0])) }, 1),
		"untag":       must(func(ts *testscript.TestScript, a []string) error { return s.untag(a[0]) }, 1),
		"tamper":      must(func(ts *testscript.TestScript, a []string) error { return s.tamper(a[0], a[1]) }, 2),
		"detach":      must(func(ts *testscript.TestScript, a []string) error { return s.detach(a[0], a[1]) }, 2),
		"expire":      must(func(ts *testscript.TestScript, a []string) error { return expire(ts.MkAbs(a[0])) }, 1),
	}
}

func exits(ts *testscript.TestScript, args []string) error {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			return err
		}
		got = exit.ExitCode()
	}
	if got != want {
		return fmt.Errorf("exit code: got %d, want %d", got, want)
	}
	return nil
}

func gitserver(ts *testscript.TestScript, args []string) error {
	srv := httptest.NewServer(githttp.Handler(ts, ts.MkAbs(args[0])))
	ts.Defer(srv.Close)
	ts.Setenv("GIT", srv.URL)
	return nil
}

// fileserver serves a directory at $SERVER. It redirects, as GitHub does for the files of a release.
func fileserver(ts *testscript.TestScript, args []string) error {
	const stored = "/stored"
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, stored+r.URL.Path, http.StatusFound) })
	mux.Handle(stored+"/", http.StripPrefix(stored, http.FileServer(http.Dir(ts.MkAbs(args[0])))))
	srv := httptest.NewServer(mux)
	ts.Defer(srv.Close)
	ts.Setenv("SERVER", srv.URL)
	return nil
}

func openRegistry(ts *testscript.TestScript, args []string) error {
	if ts.Getenv("REGISTRY") == "" {
		srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		ts.Defer(srv.Close)
		ts.Setenv("REGISTRY", strings.TrimPrefix(srv.URL, "http://"))
	}
	for _, arg := range args {
		ref, err := name.ParseReference(ts.Getenv("REGISTRY") + "/" + arg)
		if err != nil {
			return err
		}
		img, err := random.Image(16, 1)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			return err
		}
	}
	return nil
}

func forgeserver(ts *testscript.TestScript, args []string) error {
	var names []string
	for name, ref := range map[string]string{"BASE": "refs/tags/BASE", "HEAD": "refs/pull/7/head", "RESULT": "refs/heads/main"} {
		out, err := gittest.Command(ts.MkAbs(args[2]), "rev-parse", ref).Output()
		if err != nil {
			return err
		}
		names = append(names, name, strings.TrimSpace(string(out)))
	}
	answers, err := forgehost.Parse(ts.ReadFile(args[1]), names...)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", githttp.Handler(ts, ts.MkAbs(args[0])))
	mux.Handle("/api/v1/", forgehost.Handler(answers, ""))
	srv := httptest.NewServer(mux)
	ts.Defer(srv.Close)
	ts.Setenv("GIT", srv.URL)
	return nil
}

// alone runs a program without a network, and logs its output.
func alone(ts *testscript.TestScript, neg bool, args []string) {
	path, err := exec.LookPath(filepath.Join(ts.Getenv("ROOT"), "out/bin", args[0]))
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "COLOPHON_TRUST", "NO_COLOR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	self := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: self(os.Getuid()), GidMappings: self(os.Getgid())}
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	if _, ok := errors.AsType[*exec.ExitError](err); neg && ok {
		return
	}
	ts.Check(err)
	if neg {
		ts.Fatalf("%v did not fail", args)
	}
}

// sabotage is an attacker with full control of the registry, but without keys.
type sabotage struct{ *harness.Platform }

func (s *sabotage) open(image string) (*oci.Registry, oci.Reference, error) {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return nil, ref, err
	}
	reg, err := oci.OpenRegistry(ref.Repository, oci.RegistryOptions{Token: s.Token("admin.json")})
	return reg, ref, err
}

func (s *sabotage) fork(from, to string) error {
	dst, _, err := s.open(to)
	if err != nil {
		return err
	}
	return s.copyTo(dst, from)
}

// copyTo copies an image, everything attached to it, and its tag.
func (s *sabotage) copyTo(dst oci.Target, from string) error {
	ctx := context.Background()
	src, ref, err := s.open(from)
	if err != nil {
		return err
	}
	d, err := src.Resolve(ctx, ref.Identifier())
	if err != nil {
		return err
	}
	if err := oci.Copy(ctx, dst, src, d); err != nil {
		return err
	}
	attached, err := src.Referrers(ctx, d.Digest)
	if err != nil {
		return err
	}
	if len(attached) == 0 {
		return fmt.Errorf("%s has nothing attached", from)
	}
	for _, a := range attached {
		if err := oci.Copy(ctx, dst, src, a); err != nil {
			return err
		}
	}
	return dst.Tag(ctx, ref.Tag, d)
}

// spoil changes the layer: the largest file is always a layer.
func spoil(dir string) error {
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		return err
	}
	var largest []byte
	var path string
	for _, b := range blobs {
		data, err := os.ReadFile(b)
		if err != nil {
			return err
		}
		if len(data) > len(largest) {
			largest, path = data, b
		}
	}
	if path == "" {
		return fmt.Errorf("%s has no blobs", dir)
	}
	largest[len(largest)/2] ^= 0x01
	return os.WriteFile(path, largest, 0o600)
}

func (s *sabotage) untag(image string) error {
	ref, err := oci.ParseReference(image)
	if err != nil {
		return err
	}
	_, name, _ := strings.Cut(ref.Repository, "/")
	return s.remove(name, ref.Tag)
}

func (s *sabotage) tamper(what, image string) error {
	reg, ref, err := s.open(image)
	if err != nil {
		return err
	}
	ctx := context.Background()
	d, err := reg.Resolve(ctx, ref.Identifier())
	if err != nil {
		return err
	}
	switch what {
	case "manifest":
		return s.edit(ref, "manifests", d.Digest)
	case "layer":
		raw, _, err := reg.Manifest(ctx, d.Digest)
		if err != nil {
			return err
		}
		var m v1.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		if len(m.Layers) == 0 {
			return fmt.Errorf("%s has no layers", image)
		}
		return s.edit(ref, "blobs", m.Layers[len(m.Layers)-1].Digest)
	}
	kind, change, err := forgery(what)
	if err != nil {
		return err
	}
	bundles, err := s.take(reg, ref, d, kind)
	if err != nil {
		return err
	}
	for _, b := range bundles {
		changed, err := change(b)
		if err != nil {
			return err
		}
		if bytes.Equal(changed, b) {
			return fmt.Errorf("tampering with %s changed nothing", what)
		}
		if _, err := oci.AttachBundle(ctx, reg, d, changed, kind, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

func (s *sabotage) detach(kind, image string) error {
	reg, ref, err := s.open(image)
	if err != nil {
		return err
	}
	d, err := reg.Resolve(context.Background(), ref.Identifier())
	if err != nil {
		return err
	}
	_, err = s.take(reg, ref, d, kind)
	return err
}

// take removes the attestations of a predicate type, and returns their bundles.
func (s *sabotage) take(reg *oci.Registry, ref oci.Reference, d v1.Descriptor, kind string) ([][]byte, error) {
	attached, err := oci.Bundles(context.Background(), reg, d.Digest)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, a := range attached {
		if a.Err != nil || a.Annotations[attest.AnnotationType] != kind {
			continue
		}
		out = append(out, a.Raw)
		_, name, _ := strings.Cut(ref.Repository, "/")
		if err := s.remove(name, a.Descriptor.Digest.String()); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no attestation of type %s is attached", kind)
	}
	return out, nil
}

// remove deletes a manifest or a tag.
func (s *sabotage) remove(name, reference string) error {
	req, err := http.NewRequest(http.MethodDelete, s.URL+"/v2/"+name+"/manifests/"+reference, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.Token("admin.json"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("deleting %s of %s: %s", reference, name, resp.Status)
	}
	return nil
}

// edit changes the last byte of a file of the registry. It replaces the file, because
// other repositories may share it by hard links.
func (s *sabotage) edit(ref oci.Reference, where string, h v1.Hash) error {
	_, name, _ := strings.Cut(ref.Repository, "/")
	path := filepath.Join(s.Data, "registry", "repositories", name, "_", where, h.Algorithm, h.Hex)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch where {
	case "manifests": // keep it valid JSON
		data = append(data[:len(data)-1], []byte(`,"evil":"yes"}`)...)
	default:
		data[len(data)/2] ^= 0x01
	}
	owner, err := os.Stat(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return err
	}
	st := owner.Sys().(*syscall.Stat_t)
	return os.Chown(path, int(st.Uid), int(st.Gid))
}

// forgery returns the predicate type that an attack changes, and the change.
func forgery(what string) (kind string, change func([]byte) ([]byte, error), err error) {
	switch what {
	case "signature":
		return attest.PredicateSign, func(b []byte) ([]byte, error) {
			return inBundle(b, func(m map[string]any) error {
				sig := m["dsseEnvelope"].(map[string]any)["signatures"].([]any)[0].(map[string]any)
				raw, err := base64.StdEncoding.DecodeString(sig["sig"].(string))
				raw[len(raw)-1] ^= 0x01
				sig["sig"] = base64.StdEncoding.EncodeToString(raw)
				return err
			})
		}, nil
	case "log-proof":
		return attest.PredicateSign, func(b []byte) ([]byte, error) {
			return inBundle(b, func(m map[string]any) error {
				entry := m["verificationMaterial"].(map[string]any)["tlogEntries"].([]any)[0].(map[string]any)
				proof := entry["inclusionProof"].(map[string]any)
				hashes, _ := proof["hashes"].([]any)
				if len(hashes) == 0 { // the first entry of a log has no hashes, so add one
					proof["hashes"] = []any{base64.StdEncoding.EncodeToString(make([]byte, 32))}
					return nil
				}
				raw, err := base64.StdEncoding.DecodeString(hashes[0].(string))
				raw[0] ^= 0x01
				hashes[0] = base64.StdEncoding.EncodeToString(raw)
				return err
			})
		}, nil
	case "provenance":
		return attest.PredicateSLSA1, payload(`"startedOn":"2`, `"startedOn":"1`), nil
	case "subject":
		return attest.PredicateSign, payload(`"sha256":"`, `"sha256":"00`), nil
	case "sbom":
		return attest.PredicateSPDX, payload(`"SPDX-2.3"`, `"SPDX-2.2"`), nil
	}
	return "", nil, fmt.Errorf("tamper: %q is unknown", what)
}

// payload returns a function that replaces text in the signed statement.
func payload(old, new string) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		return inBundle(b, func(m map[string]any) error {
			env := m["dsseEnvelope"].(map[string]any)
			raw, err := base64.StdEncoding.DecodeString(env["payload"].(string))
			if err != nil {
				return err
			}
			if !bytes.Contains(raw, []byte(old)) {
				return fmt.Errorf("the statement has no %s", old)
			}
			env["payload"] = base64.StdEncoding.EncodeToString(bytes.Replace(raw, []byte(old), []byte(new), 1))
			return nil
		})
	}
}

func inBundle(b []byte, change func(map[string]any) error) ([]byte, error) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if err := change(m); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func expire(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var doc map[string]any
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	cas := doc["trustedRoot"].(map[string]any)["certificateAuthorities"].([]any)
	for _, ca := range cas {
		ca.(map[string]any)["validFor"] = map[string]any{"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"}
	}
	if data, err = json.Marshal(doc); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}
