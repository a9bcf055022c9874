package buildkit

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/test/needs"
)

// TestUpgradedPrograms: an upgrade of the host's packages replaces the programs of builds while the
// platform runs. The record names those that ran.
func TestUpgradedPrograms(t *testing.T) {
	dir := t.TempDir()
	daemon, runtime := filepath.Join(dir, "buildkitd"), filepath.Join(dir, "runc")
	installed, err := FindRuntime("")
	if err != nil {
		needs.Missing(t, "%v", err)
	}
	install := func(from, to, more string) {
		t.Helper()
		data, err := os.ReadFile(from)
		if err != nil {
			needs.Missing(t, "%v", err)
		}
		if err := os.WriteFile(to+".new", append(data, more...), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			t.Fatal(err)
		}
	}
	install(repo+"/out/bin/buildkitd", daemon, "")
	install(installed, runtime, "")
	b := builderOf(t, RoomsConfig{Buildkitd: daemon, Runtime: runtime})
	r := b.rooms
	for _, more := range []string{"", "upgraded"} { // what follows the program in its file changes nothing but the digest
		if more != "" {
			install(repo+"/out/bin/buildkitd", daemon, more)
			install(installed, runtime, more)
		}
		result, log, err := run(t, b, builder.Request{Tree: tree(t, "FROM busybox:1.35\nRUN true\n")})
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		for i, path := range []string{daemon, runtime} {
			if want, err := builder.FileDigest(path); err != nil || len(result.Tools) != 2 || result.Tools[i].Digest["sha256"] != want {
				t.Errorf("after %q: got %v, want %s for %s (%v)", more, result.Tools, want, path, err)
			}
		}
	}
	r.cfg.Gateway = func(l net.Listener, s gateway.Settings) (Gateway, error) {
		r.cfg.Gateway = nil
		data, err := os.ReadFile(runtime) // after it was measured
		if err == nil {
			err = os.WriteFile(runtime, append(data, "again"...), 0o755) // the file that the room has already
		}
		if err != nil {
			return nil, err
		}
		return r.startGateway(l, s.Session)
	}
	id, err := r.Begin(t.Context(), builder.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), id, builder.Limits{}); err == nil || !strings.Contains(err.Error(), "changed while the room opened") {
		t.Errorf("opened: got %v", err)
	}
	if record, err := r.End(t.Context(), id); err == nil {
		t.Errorf("got the record %v", record)
	}
	if left, err := os.ReadDir(r.cfg.StateDir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}
