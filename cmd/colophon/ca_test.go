package main

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// --ca-file is what the command trusts for TLS. A process reads the system's authorities
// once, so each command runs in one of its own.
func TestCAFile(t *testing.T) {
	if args := os.Getenv("CA_FILE_TEST"); args != "" {
		os.Exit(run(t.Context(), strings.Split(args, " ")))
	}
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	for _, c := range []struct {
		flag string
		code int
		want string
	}{
		{"", exitFailure, "hint: if you trust that authority, name its certificate: --ca-file FILE"},
		{" --ca-file " + ca, exitFailure, "404"},
		{" --ca-file " + file("empty.pem", "text"), exitUsage, "has no certificate in PEM"},
		{" --ca-file " + file("large.pem", strings.Repeat("x", maxCAFile+1)), exitUsage, "--ca-file"},
		{" --ca-file " + filepath.Join(dir, "none"), exitUsage, "no such file"},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCAFile$")
		cmd.Env = append(os.Environ(), "CA_FILE_TEST=trust add --yes "+srv.URL+c.flag, "SSL_CERT_FILE=", "COLOPHON_TRUST="+t.TempDir())
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: got exit code %d, %s; want %d, %q", c.flag, code, out, c.code, c.want)
		}
	}
	if out := fmt.Sprint(newRootCommand().PersistentFlags().FlagUsages()); !strings.Contains(out, "--ca-file FILE") {
		t.Errorf("the help has no --ca-file: %s", out)
	}
}
