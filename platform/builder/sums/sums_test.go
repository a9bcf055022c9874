package sums

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
)

func sha(raw string) string {
	sum := sha256.Sum256([]byte(raw))
	return hex.EncodeToString(sum[:])
}

// module returns a zip with n files of a size, and its sum as the go command computes it.
func module(t *testing.T, n int, each int64) (raw string, s Sum) {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		w, err := z.Create(fmt.Sprint("m@v1.0.0/", i))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(w, io.LimitReader(zeros{}, each))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	h1, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), Sum{sha(b.String()), h1}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A zip that unpacks to more than a module may have, lists more files or one twice, is not
// unpacked.
func TestHostileModules(t *testing.T) {
	large, _ := module(t, 1, maxUnpacked+1)
	many, _ := module(t, maxEntries+1, 0)
	var twice bytes.Buffer
	z := zip.NewWriter(&twice)
	for range 2 {
		if _, err := z.Create("m@v1.0.0/m.go"); err != nil {
			t.Fatal(err)
		}
	}
	z.Close()
	for what, raw := range map[string]string{
		"large":   large,
		"many":    many,
		"twice":   twice.String(),
		"no zip":  "PK",
		"entries": strings.Repeat("PK\x01\x02", maxEntries+1),
		"longer":  strings.Repeat("x", maxModule+1),
	} {
		if s, err := compute([]byte(raw)); err == nil {
			t.Errorf("%s: got %v, want an error", what, s)
		}
	}
	raw, want := module(t, 300, 1000)
	if got, err := compute([]byte(raw)); err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// demand is for a module that nobody can have but the one with the sum.
func demand(s ...Sum) (list []builder.Demand) {
	for i, s := range s {
		list = append(list, builder.Demand{URL: fmt.Sprintf("/m%d/@v/v1.0.0.zip", i), Digest: s.H1})
	}
	return list
}

func sum(n int) Sum {
	return Sum{sha(fmt.Sprint("zip", n)), fmt.Sprintf("h1:%043d=", n)}
}

func find(t *testing.T, f *File, want ...Sum) {
	t.Helper()
	got, err := f.Find(demand(sum(1), sum(2), sum(3)))
	if err != nil {
		t.Fatal(err)
	}
	less := func(a, b Sum) int { return strings.Compare(a.SHA256, b.SHA256) }
	if slices.SortFunc(got, less); !slices.Equal(got, slices.SortedFunc(slices.Values(want), less)) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "modules")
	f := At(path)
	find(t, f)
	bad := []Sum{{}, {"x", sum(1).H1}, {sum(1).SHA256, "h1:x"}, {sum(1).SHA256, sum(1).H1 + "\n"}, {strings.ToUpper(sum(1).SHA256), sum(1).H1}}
	if err := f.Add(append(bad, sum(1), sum(9))); err != nil {
		t.Fatal(err)
	}
	if err := f.Add([]Sum{sum(2)}); err != nil {
		t.Fatal(err)
	}
	find(t, At(path), sum(1), sum(2)) // not 9, which nobody asked for
	mod := []builder.Demand{{URL: "/m/@v/v1.0.0.mod", Digest: sum(1).H1}, {URL: "/m.zip", Digest: sum(1).H1}}
	if got, err := f.Find(mod); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v for what is no module's zip", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want a file for its owner alone", info.Mode(), err)
	}
}

// A crash or a bad disk leaves parts of lines, other characters, or lines that were joined.
// What is left says nothing that was not added, and takes more.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "modules")
	whole := sum(1).line() + sum(2).line()
	added := func(s Sum) bool { return s == sum(1) || s == sum(2) || s == sum(3) }
	try := func(what, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := At(path)
		if err := f.Add([]Sum{sum(3)}); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		three := false
		for line := range strings.Lines(string(raw)) {
			s, ok := parse(strings.TrimSuffix(line, "\n"))
			if ok && !added(s) {
				t.Errorf("%s: got %v, which nobody added", what, s)
			}
			three = three || s == sum(3) && ok
		}
		if !three {
			t.Errorf("%s: what was added after the damage is lost", what)
		}
	}
	for i := range whole {
		try(fmt.Sprint("cut off at ", i), whole[:i])
		try(fmt.Sprint("without its start up to ", i), whole[i:])
		try(fmt.Sprint("another byte at ", i), whole[:i]+string(whole[i]^1)+whole[i+1:])
		try(fmt.Sprint("zeros from ", i), whole[:i]+strings.Repeat("\x00", len(whole)-i))
	}
	one, two := sum(1).line(), sum(2).line()
	for i := range one {
		try(fmt.Sprint("one line's start and the other's end, at ", i), one[:i]+two[i:])
	}
	edited := strings.Replace(one, sum(1).H1, sum(3).H1, 1)
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	find(t, At(path))
}

// The file stays small: the older half goes. Of zips with the same content, which anybody can
// make, Find returns the last.
func TestFullFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "modules")
	f := At(path)
	if err := f.Add([]Sum{sum(1)}); err != nil {
		t.Fatal(err)
	}
	var filler []Sum
	for n := 0; n < maxFile/len(sum(4).line()); n++ {
		filler = append(filler, Sum{sha(fmt.Sprint(n)), sum(4).H1})
	}
	if err := f.Add(filler); err != nil {
		t.Fatal(err)
	}
	if err := f.Add([]Sum{sum(2)}); err != nil {
		t.Fatal(err)
	}
	find(t, f, sum(2))
	if info, err := os.Stat(path); err != nil || info.Size() > maxFile || info.Size() < maxFile/3 {
		t.Errorf("got %v, %v, want about half of the maximum", info.Size(), err)
	}
	same, err := f.Find(demand(sum(4)))
	if err != nil || len(same) != maxSame || !slices.Equal(same, filler[len(filler)-maxSame:]) {
		t.Errorf("got %d sums, %v, want the last %d", len(same), err, maxSame)
	}
	// A file that is too large to be read is started again.
	if err := os.Truncate(path, 2*maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Find(demand(sum(1))); err == nil {
		t.Error("got no error for a file that is too large")
	}
	if err := f.Add([]Sum{sum(3)}); err != nil {
		t.Fatal(err)
	}
	find(t, f, sum(3))
}

func TestWanted(t *testing.T) {
	get := func(url, sum string) builder.Exchange {
		return builder.Exchange{Method: "GET", URL: "https://p.example" + url, Status: 200, SHA256: sum}
	}
	failed := get("/f/@v/v1.0.0.zip", sha("f"))
	failed.Status = 404
	head := get("/h/@v/v1.0.0.zip", sha("h"))
	head.Method = "HEAD"
	record := []builder.Exchange{
		get("/m/@v/v1.0.0.zip", sum(1).SHA256), get("/m/@v/v1.0.0.zip", sum(1).SHA256), get("/n/@v/v1.0.0.zip", sum(2).SHA256),
		get("/m/@v/v1.0.0.mod", sha("mod")), get("/m.zip", sha("other")), get("/x/@v/v1.0.0.zip", "../../../etc/shadow"), get("/y/@v/v1.0.0.zip", ""), failed, head,
	}
	if got := Wanted(demand(sum(1)), record, []Sum{sum(2)}); !slices.Equal(got, []string{sum(1).SHA256}) {
		t.Errorf("got %q, want the one module that is not known", got)
	}
	if got := Wanted(nil, record, nil); got != nil {
		t.Errorf("got %q for a commit that demands no module", got)
	}
}

// put stores a body as gateways do, perhaps under a name that is not its own.
func put(t *testing.T, store, name, raw string) {
	t.Helper()
	file := filepath.Join(store, name[:2], name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(raw), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// ask runs Ask against a process.
func ask(t *testing.T, store string, process func(in io.Reader, out io.Writer) error, wanted ...string) ([]Sum, error) {
	t.Helper()
	in, to := io.Pipe()
	from, out := io.Pipe()
	go func() {
		err := process(in, out)
		in.CloseWithError(io.ErrClosedPipe)
		out.CloseWithError(err)
	}()
	return Ask(to, from, store, wanted)
}

// A gateway that was taken over puts into the store what is no file, what has another name,
// and links to files of the host. None of it gets a sum; the modules beside it do.
func TestAskHostileStore(t *testing.T) {
	store, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	first, one := module(t, 3, 10)
	last, two := module(t, 4, 10)
	evil, _ := module(t, 5, 10)
	put(t, store, one.SHA256, first)
	put(t, store, two.SHA256, last)
	put(t, store, sha("another"), evil)
	put(t, store, sha("text"), "text")
	put(t, store, sha("large"), "")
	put(t, filepath.Join(store, "of-"+sha("scope")), sha("private"), first)
	for _, name := range []string{"fifo", "link", "inner", "dir"} {
		if err := os.MkdirAll(filepath.Join(store, sha(name)[:2]), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(store, sha(name)[:2], sha(name)) }
	if err := errors.Join(
		os.WriteFile(secret, []byte(first), 0o600), os.Truncate(at("large"), maxModule+1),
		unix.Mkfifo(at("fifo"), 0o600), os.Symlink(secret, at("link")), os.Symlink("../"+one.SHA256[:2]+"/"+one.SHA256, at("inner")), os.Mkdir(at("dir"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	got, err := ask(t, store, Serve, one.SHA256, sha("another"), sha("text"), sha("large"), sha("private"), sha("fifo"), sha("link"), sha("inner"), sha("dir"), sha("absent"), two.SHA256)
	if err != nil || !slices.Equal(got, []Sum{one, two}) {
		t.Errorf("got %v, %v, want %v and %v", got, err, one, two)
	}
}

// A process that a zip has taken over answers for other zips, in another format, or not at
// all. What it had answered before stays.
func TestAskHostileProcess(t *testing.T) {
	store := t.TempDir()
	put(t, store, sum(1).SHA256, "1")
	put(t, store, sum(2).SHA256, "2")
	say := func(lines ...string) func(io.Reader, io.Writer) error {
		return func(in io.Reader, out io.Writer) error {
			go io.Copy(io.Discard, in)
			for _, l := range lines {
				if _, err := io.WriteString(out, l+"\n"); err != nil {
					return err
				}
			}
			return nil
		}
	}
	good := fmt.Sprintf(`{"sha256":%q,"h1":%q}`, sum(1).SHA256, sum(1).H1)
	for what, tt := range map[string]struct {
		says   []string
		want   []Sum
		failed bool
	}{
		"another":  {[]string{fmt.Sprintf(`{"sha256":%q,"h1":%q}`, sum(3).SHA256, sum(3).H1), `{"sha256":"","h1":""}`}, nil, false},
		"an end":   {[]string{good}, []Sum{sum(1)}, true},
		"no JSON":  {[]string{good, "h1"}, []Sum{sum(1)}, true},
		"no h1":    {[]string{good, fmt.Sprintf(`{"sha256":%q,"h1":"h1:x\ny"}`, sum(2).SHA256)}, []Sum{sum(1)}, false},
		"a flood":  {[]string{strings.Repeat("x", maxAnswer+1)}, nil, true},
		"a member": {[]string{`{"sha256":"","h1":"","more":1}`}, nil, true},
	} {
		got, err := ask(t, store, say(tt.says...), sum(1).SHA256, sum(2).SHA256)
		if !slices.Equal(got, tt.want) || (err != nil) != tt.failed {
			t.Errorf("%s: got %v, %v, want %v, and an error: %v", what, got, err, tt.want, tt.failed)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	for _, in := range []string{"x\n", "-1\n", fmt.Sprint(maxModule+1, "\n"), "3\nab", "3"} {
		if err := Serve(strings.NewReader(in), io.Discard); err == nil {
			t.Errorf("%q: got no error", in)
		}
	}
}
