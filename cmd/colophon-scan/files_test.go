package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	syftsource "github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/directorysource"
	"github.com/anchore/syft/syft/source/filesource"
	"github.com/mholt/archives"

	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/sbom"
)

// project is a directory with lock files of several languages.
var project = map[string]string{
	"go.mod":                "module example.com/app\n\ngo 1.26.0\n\nrequire (\n\tgolang.org/x/mod v0.41.0\n\tgolang.org/x/sys v0.30.0 // indirect\n)\n",
	"go.sum":                "golang.org/x/mod v0.41.0 h1:rZ7DD+ZbGYJmN8JvD3kbzFvRN6wyWtmEHnWjKqDn9mg=\ngolang.org/x/mod v0.41.0/go.mod h1:rZ7DD+ZbGYJmN8JvD3kbzFvRN6wyWtmEHnWjKqDn9mg=\n",
	"web/package-lock.json": `{"name":"web","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"web","version":"1.0.0"},"node_modules/left-pad":{"version":"1.3.0","resolved":"https://npm.example.com/left-pad/-/left-pad-1.3.0.tgz","integrity":"sha512-XI5MPzVNApjAyhQzphX8BkmKsKUxD4LdyK24iZeQGinBN9yTQT3bFlCBy/aVx2HrNcqQGsdot8ghrjyrvMCoEA=="}}}`,
	"api/requirements.txt":  "flask==3.0.0\nrequests==2.31.0 # pinned\n",
	"api/poetry.lock":       "[[package]]\nname = \"click\"\nversion = \"8.1.7\"\ndescription = \"\"\noptional = false\npython-versions = \">=3.7\"\nfiles = []\n\n[metadata]\nlock-version = \"2.0\"\n",
	"rust/Cargo.lock":       "version = 3\n\n[[package]]\nname = \"libc\"\nversion = \"0.2.150\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"89d92a4743f9a61002fae18374ed11e7973f530cb3a3255fb354818118b2203c\"\n",
	"java/pom.xml":          "<project><modelVersion>4.0.0</modelVersion><groupId>com.example</groupId><artifactId>app</artifactId><version>1</version><dependencies><dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>2.0.9</version></dependency></dependencies></project>",
	"java/gradle.lockfile":  "# This is a Gradle generated file\norg.slf4j:slf4j-api:2.0.9=compileClasspath\nempty=\n",
	"ruby/Gemfile.lock":     "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.0.8)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  rack\n",
	"php/composer.lock":     `{"packages":[{"name":"psr/log","version":"3.0.0","type":"library","license":["MIT"]}],"packages-dev":[]}`,
}

func writeProject(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func filesOrder(t *testing.T, path string) scan.Files {
	return scan.Files{Path: path, Dir: t.TempDir(), Name: filepath.Base(path), Created: commitTime}
}

// listed returns the packages of both documents, which must list the same.
func listed(t *testing.T, spdx, cdx []byte) []string {
	t.Helper()
	var lists [2][]string
	for i, doc := range [][]byte{spdx, cdx} {
		kind := []string{sbom.PredicateSPDX, sbom.PredicateCycloneDX}[i]
		d, err := sbom.Read(doc, kind)
		if err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, doc)
		}
		noDangling(t, kind, doc)
		for _, p := range d.List {
			lists[i] = append(lists[i], p.Name[strings.LastIndexByte(p.Name, '/')+1:]+" "+p.Version+" "+p.PURL)
		}
		slices.Sort(lists[i])
	}
	if !slices.Equal(lists[0], lists[1]) {
		t.Errorf("SPDX lists\n%q\nand CycloneDX\n%q", lists[0], lists[1])
	}
	return lists[0]
}

// stock returns what Syft lists with its own defaults, apart from running the go command.
func stock(t *testing.T, path string) (list []string) {
	t.Helper()
	var src syftsource.Source
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		src, err = directorysource.NewFromPath(path)
	} else {
		src, err = filesource.NewFromPath(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	catalogers := pkgcataloging.DefaultConfig()
	catalogers.Golang.UsePackagesLib = false
	s, err := syft.CreateSBOM(t.Context(), src, syft.DefaultCreateSBOMConfig().WithPackagesConfig(catalogers))
	if err != nil {
		t.Fatal(err)
	}
	for p := range s.Artifacts.Packages.Enumerate() {
		list = append(list, p.Name[strings.LastIndexByte(p.Name, '/')+1:]+" "+p.Version+" "+p.PURL)
	}
	slices.Sort(list)
	return list
}

func archive(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	write := func(create func(name string, size int) io.Writer) {
		for _, n := range sorted(slices.Collect(keys(files))) {
			io.WriteString(create(n, len(files[n])), files[n])
		}
	}
	if strings.HasSuffix(name, ".zip") {
		z := zip.NewWriter(&buf)
		write(func(name string, _ int) io.Writer { w, _ := z.Create(name); return w })
		z.Close()
	} else {
		g := gzip.NewWriter(&buf)
		w := tar.NewWriter(g)
		write(func(name string, size int) io.Writer {
			w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Typeflag: tar.TypeReg})
			return w
		})
		w.Close()
		g.Close()
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestFilesListWhatSyftLists: a directory, each lock file, archives and a program give the
// packages that Syft gives by itself.
func TestFilesListWhatSyftLists(t *testing.T) {
	bin, err := hello()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "project")
	writeProject(t, dir, project)
	program := map[string]string{"app_1.0/hello": string(bin), "app_1.0/README": "text"}
	paths := []string{dir, archive(t, "app.tar.gz", program), archive(t, "app.tgz", program), archive(t, "app.zip", program)}
	for name := range project {
		paths = append(paths, filepath.Join(dir, name))
	}
	writeProject(t, dir, map[string]string{"../hello": string(bin)})
	paths = append(paths, filepath.Join(filepath.Dir(dir), "hello"))
	for _, path := range paths {
		want := stock(t, path)
		spdx, cdx, err := generateFiles(t.Context(), filesOrder(t, path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := listed(t, spdx, cdx); !slices.Equal(got, want) || len(got) == 0 && filepath.Ext(path) != ".sum" {
			t.Errorf("%s: got\n%q\nwant what Syft lists:\n%q", path, got, want)
		}
	}
}

// TestSameFilesSameBytes: at another place, with other times, the documents are the same, and
// they name no directory of the machine.
func TestSameFilesSameBytes(t *testing.T) {
	var first [2][]byte
	for i := range 2 {
		parent := t.TempDir()
		dir := filepath.Join(parent, "project")
		writeProject(t, dir, project)
		if i == 1 {
			if err := os.Chtimes(filepath.Join(dir, "go.mod"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		file := archive(t, "app.tar.gz", project)
		for j, path := range []string{dir, file} {
			o := filesOrder(t, path)
			spdx, cdx, err := generateFiles(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			both := slices.Concat(spdx, cdx)
			for _, leak := range []string{parent, filepath.Dir(file), o.Dir, "contents-"} {
				if bytes.Contains(both, []byte(leak)) {
					t.Errorf("%s: the documents name %s", path, leak)
				}
			}
			if i == 0 {
				first[j] = both
			} else if !bytes.Equal(first[j], both) {
				t.Errorf("%s: two runs differ:\n%s\n%s", path, first[j], both)
			}
			if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		}
	}
}

// TestLeftOut: Syft reads no files on some file systems, which makes no SBOM without packages.
func TestLeftOut(t *testing.T) {
	const dir, file = "/proc/sys/kernel/random", "/proc/sys/kernel/random/boot_id"
	for _, path := range []string{dir, file} {
		if _, _, err := generateFiles(t.Context(), filesOrder(t, path)); err == nil || !strings.Contains(err.Error(), "copy it elsewhere") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// TestHostileDirectory: links that lead out of the directory are not followed, devices and
// fifos not opened, and what cannot be read is named.
func TestHostileDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "project")
	writeProject(t, parent, map[string]string{
		"outside/requirements.txt": "outside==1\n", "project/requirements.txt": "inside==1\n", "project/a\nb/requirements.txt": "newline==1\n",
		"project/data.tar.gz": "an archive", "project/bad.jar": "PK\x03\x04 and no archive",
	})
	for link, to := range map[string]string{"up": "../outside", "abs": filepath.Join(parent, "outside"), "file": "../outside/requirements.txt", "loop": "loop", "dots": "../../../../../../.." + parent + "/outside"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "poetry.lock"), 0o644); err != nil {
		t.Fatal(err)
	}
	spdx, cdx, err := generateFiles(t.Context(), filesOrder(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	got := listed(t, spdx, cdx)
	if want := []string{"inside 1 pkg:pypi/inside@1", "newline 1 pkg:pypi/newline@1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d, err := sbom.Read(spdx, sbom.PredicateSPDX)
	if want := []string{"/bad.jar", "/data.tar.gz"}; err != nil || !slices.Equal(d.Unread, want) {
		t.Errorf("unread: got %q, %v, want %q", d.Unread, err, want)
	}
	if _, _, err := generateFiles(t.Context(), filesOrder(t, filepath.Join(dir, "poetry.lock"))); err == nil || !strings.Contains(err.Error(), "want a regular file or a directory") {
		t.Errorf("a fifo: got %v", err)
	}
}

// TestHostileArchive: an archive that leaves its directory or fills the disk is refused, and
// links in it are not made.
func TestHostileArchive(t *testing.T) {
	for _, name := range []string{"app.tar.gz", "app.zip"} {
		file := archive(t, name, map[string]string{"ok": "", "../../up": "x"})
		if _, _, err := generateFiles(t.Context(), filesOrder(t, file)); err == nil || !strings.Contains(err.Error(), `got "../../up", want a path in the archive`) {
			t.Errorf("%s: a path out of it: got %v", name, err)
		}
		defer func(old int64) { unpackedBytes = old }(unpackedBytes)
		unpackedBytes = 1000
		o := filesOrder(t, archive(t, name, map[string]string{"a": strings.Repeat("x", 600), "b": strings.Repeat("x", 600)}))
		if _, _, err := generateFiles(t.Context(), o); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
			t.Errorf("%s: a bomb: got %v", name, err)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "link", Linkname: "/etc", Typeflag: tar.TypeSymlink})
	w.WriteHeader(&tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})
	w.WriteHeader(&tar.Header{Name: "link/requirements.txt", Mode: 0o644, Size: 10, Typeflag: tar.TypeReg})
	io.WriteString(w, "inside==1\n")
	w.Close()
	file := filepath.Join(t.TempDir(), "links.tar")
	if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	spdx, cdx, err := generateFiles(t.Context(), filesOrder(t, file))
	if err != nil {
		t.Fatal(err)
	}
	if got := listed(t, spdx, cdx); fmt.Sprint(got) != "[inside 1 pkg:pypi/inside@1]" {
		t.Errorf("got %q", got)
	}
}

// TestManyFiles: a directory or an archive with too many files is refused.
func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	writeProject(t, dir, map[string]string{"a": "", "b": "", "c/d": ""})
	if _, err := survey(dir, 5); err != nil {
		t.Error(err)
	}
	if _, err := survey(dir, 4); err == nil || !strings.Contains(err.Error(), "more than 4 files") {
		t.Errorf("got %v", err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	u := unpacker{root: root, files: 1}
	d := archives.FileInfo{FileInfo: info, NameInArchive: "d"}
	if err := u.add(t.Context(), d); err != nil {
		t.Error(err)
	}
	if err := u.add(t.Context(), d); err == nil || !strings.Contains(err.Error(), "files") {
		t.Errorf("got %v", err)
	}
	// The directories that a name needs count, once.
	u.files = 5
	for _, name := range []string{"e/f/g", "e/f/h", "e/i"} {
		d.NameInArchive = name
		if err := u.add(t.Context(), d); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	u.files = 5
	d.NameInArchive = strings.Repeat("j/", 5) + "k"
	if err := u.add(t.Context(), d); err == nil || !strings.Contains(err.Error(), "files") {
		t.Errorf("six directories: got %v", err)
	}
	if _, err := root.Stat("j"); err == nil {
		t.Error("directories above the limit were made")
	}
}
