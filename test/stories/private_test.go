package stories

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/privatehost"
)

// tools are the Debian packages of this machine in the private base image of a script.
var tools = []string{"curl", "python3-minimal", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "python3-pip", "python3-distutils", "python3-setuptools", "python3-pkg-resources", "media-types"}

type hostKey struct{}

// clients are those of Node.js and Java. npm replaces the files of its package when it updates itself.
var clients = []string{"/usr/bin/node", "/usr/bin/npm", "/usr/lib/node_modules/npm", "/usr/share/nodejs", "maven", "openjdk-*-jre-headless", "lib*-java", "java-common"}

// openPrivate serves a directory on a private host, as package privatehost says: at $HOST and $OTHER, and
// at $ALIAS for who maps this name to $HOST. roots.pem gets its certificate authority. The image
// $HOST/private/tools has tools, or clients if the second argument says so.
func (s *sabotage) openPrivate(ts *testscript.TestScript, args []string) error {
	h := privatehost.Start(ts, ts.MkAbs(args[0]))
	ts.Value(hostKey{}).(*privateHost).Host = h
	ts.Setenv("HOST", h.Name)
	ts.Setenv("OTHER", h.Other)
	ts.Setenv("ALIAS", privatehost.Alias)
	if err := os.WriteFile(ts.MkAbs("roots.pem"), h.CA, 0o644); err != nil {
		return err
	}
	packages := tools
	if len(args) > 1 && args[1] == "clients" {
		packages = clients
	}
	return h.PutImage("private/tools", harness.BaseImages(s.T), "docker.io/library/debian:bookworm-slim", packages...)
}

// privateHost is the private host of a script, if it has one.
type privateHost struct{ *privatehost.Host }

func hostOf(ts *testscript.TestScript) *privatehost.Host {
	return ts.Value(hostKey{}).(*privateHost).Host
}

// asked writes what the private host was asked, and forgets it.
func asked(ts *testscript.TestScript, args []string) error {
	return os.WriteFile(ts.MkAbs(args[0]), []byte(hostOf(ts).Asked()), 0o600)
}

// sealed fails if a file, or the content of a compressed one, contains a secret of the private
// host in plain form, as base64 or as hex.
func sealed(ts *testscript.TestScript, args []string) error {
	var needles [][]byte
	for before := range 3 {
		coded := base64.RawStdEncoding.EncodeToString([]byte("xx"[:before] + privatehost.Mark))
		needles = append(needles, []byte(coded[[]int{0, 2, 3}[before]:len(coded)-1]))
	}
	needles = append(needles, []byte(privatehost.Mark), []byte(hex.EncodeToString([]byte(privatehost.Mark))))
	files := 0
	for _, arg := range args {
		err := filepath.WalkDir(ts.MkAbs(arg), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			return contains(path, needles)
		})
		if err != nil {
			return err
		}
	}
	if files == 0 {
		return fmt.Errorf("%v have no files", args)
	}
	return nil
}

// contains returns an error if a file contains a needle.
func contains(path string, needles [][]byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	readers := []io.Reader{f}
	if g, err := gzip.NewReader(bufio.NewReader(f)); err == nil {
		readers = append([]io.Reader{g}, readers...) // it reads to the end first
	}
	for _, r := range readers {
		if r == io.Reader(f) {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
		}
		buf, kept := make([]byte, 1<<20), 0
		for {
			n, err := r.Read(buf[kept:])
			text := buf[:kept+n]
			if i := slices.IndexFunc(needles, func(needle []byte) bool { return bytes.Contains(text, needle) }); i >= 0 {
				return fmt.Errorf("%s contains a secret: %q", path, needles[i])
			}
			if err != nil {
				break // a damaged compressed file has an end too
			}
			kept = copy(buf, text[max(0, len(text)-64):])
		}
	}
	return nil
}

// revoke makes the secret of a kind invalid.
func revoke(ts *testscript.TestScript, args []string) error {
	hostOf(ts).Revoke(args[0])
	return nil
}
