package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestDirectory: the files of a release are proved by their list or one by one, and
// nothing beside them is passed over.
func TestDirectory(t *testing.T) {
	p := prooftest.New(t)
	const ada, people = "https://accounts.example.com/ada", "https://accounts.example.com"
	opts := verify.Options{Trust: []*trust.Root{p.PlainRoot(people)}, Policy: demanded(t, policy.Document{Signer: &policy.DocumentSigner{Identity: ada, Issuer: people}})}
	named := func(name, content string) verify.File {
		f := fileOf([]byte(content))
		f.Name = name
		return f
	}
	sign := func(f verify.File) []byte {
		st, err := attest.NewStatement(f.Name, f.Digest.Hex, attest.PredicateSign, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Sign(prooftest.Identity{SAN: ada, Issuer: people}, st)
	}
	line := func(f verify.File) string { return f.Digest.Hex + "  " + f.Name + "\n" }
	a, b, evil := named("a", "one"), named("b", "two"), named("a", "evil")
	raw := line(a) + line(b)
	sums := named("SHA256SUMS", raw)
	for name, test := range map[string]struct {
		files   []verify.File
		list    string // empty: none
		bundles [][]byte
		beside  map[string][][]byte
		want    verify.Outcome
		words   string
	}{
		"list":                      {[]verify.File{a, b}, raw, [][]byte{sign(sums)}, nil, verify.Accepted, "2 files have the digests that SHA256SUMS lists"},
		"changed file":              {[]verify.File{evil, b}, raw, [][]byte{sign(sums)}, nil, verify.Rejected, "a: got sha256:"},
		"changed file with a proof": {[]verify.File{evil, b}, raw, [][]byte{sign(sums), sign(evil)}, nil, verify.Rejected, "a: got sha256:"},
		"missing file":              {[]verify.File{a}, raw, [][]byte{sign(sums)}, nil, verify.Rejected, "b is missing"},
		"unlisted file":             {[]verify.File{a, b, named("c", "three")}, raw, [][]byte{sign(sums)}, nil, verify.Rejected, "c is not in the list, and has no proof of its own"},
		"unlisted file, proved":     {[]verify.File{a, b, named("c", "three")}, raw, [][]byte{sign(sums)}, map[string][][]byte{"c": {sign(named("c", "three"))}}, verify.Accepted, ""},
		"list without a proof":      {[]verify.File{a, b}, raw, nil, nil, verify.Rejected, ""},
		"each with a proof":         {[]verify.File{a, b}, raw, [][]byte{sign(a), sign(b)}, nil, verify.Accepted, ""},
		"one with a proof":          {[]verify.File{a, b}, raw, [][]byte{sign(a)}, nil, verify.Rejected, ""},
		"malformed list":            {[]verify.File{a, b}, "a\n", [][]byte{sign(a), sign(b)}, nil, verify.Rejected, "SHA256SUMS: line 1"},
		"no list":                   {[]verify.File{a, b}, "", [][]byte{sign(a), sign(b)}, nil, verify.Accepted, "2 files, each with a proof of its own"},
		"no list, one proof":        {[]verify.File{a, b}, "", [][]byte{sign(a)}, nil, verify.Rejected, "b, 3 bytes"},
		"proof beside another":      {[]verify.File{a, b}, "", [][]byte{sign(a)}, map[string][][]byte{"a": {sign(b)}}, verify.Rejected, "b, 3 bytes"},
		"no files":                  {nil, "", [][]byte{sign(a)}, nil, verify.Rejected, "the directory has no files"},
	} {
		d := verify.Directory{Name: "dist", Files: test.files, Bundles: test.beside}
		if test.list != "" {
			f := named("SHA256SUMS", test.list)
			d.Sums, d.Raw = &f, []byte(test.list)
		}
		v := verify.BundledDirectory(t.Context(), d, test.bundles, time.Now(), opts)
		if v.Outcome != test.want || !strings.Contains(v.Links[0].Claim+v.Links[0].Reason, test.words) || v.Image != "dist" {
			t.Errorf("%s: got %s, %+v, want %s, %q", name, v.Outcome, v.Links[0], test.want, test.words)
		}
	}
	// Bundles are bundles, whatever their names are; all else needs a proof.
	if !verify.AreBundles([][]byte{sign(a), sign(b)}) || verify.AreBundles([][]byte{sign(a), []byte("{}")}) || verify.AreBundles(nil) {
		t.Error("a file counts as bundles only if all of it is")
	}
	// Files are signed under roots that name no builders.
	builders := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, policy.Document{Source: prooftest.Source})}
	if v := verify.Bundled(t.Context(), a, [][]byte{sign(a)}, time.Now(), builders); v.Outcome != verify.Undecided || !strings.Contains(v.Why(), "there is no Sigstore trusted root") {
		t.Errorf("no plain root: got %s, %q", v.Outcome, v.Why())
	}
}

// TestLayoutOfTwoImages: a proven image is accepted only where every tool takes it for the
// reference.
func TestLayoutOfTwoImages(t *testing.T) {
	p, store := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(store)
	r.Attach(prooftest.Kinds...)
	layout, err := oci.CreateLayout(filepath.Join(t.TempDir(), "app"))
	if err != nil {
		t.Fatal(err)
	}
	defer layout.Close()
	if _, err := oci.Save(t.Context(), layout, store, r.Image, "", nil); err != nil { // the store lists referrers of the image for its platforms, too
		t.Fatal(err)
	}
	if err := layout.Tag(t.Context(), "v1.2.0", r.Image); err != nil {
		t.Fatal(err)
	}
	opts := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, policy.Document{Source: prooftest.Source}), Layout: true}
	if v := verify.Image(t.Context(), layout, "v1.2.0", time.Now(), opts); v.Outcome != verify.Accepted {
		t.Fatalf("got %s, %q", v.Outcome, v.Why())
	}
	put := func(mediaType types.MediaType, raw string) v1.Descriptor {
		sum := sha256.Sum256([]byte(raw))
		d := v1.Descriptor{MediaType: mediaType, Size: int64(len(raw)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
		if err := layout.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(raw)), nil }); err != nil {
			t.Fatal(err)
		}
		return d
	}
	manifest, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: put(types.OCIConfigJSON, "{}"), Layers: []v1.Descriptor{put(types.OCIUncompressedLayer, "evil")}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := layout.PushManifest(t.Context(), manifest, string(types.OCIManifestSchema1))
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.Tag(t.Context(), "other", other); err != nil {
		t.Fatal(err)
	}
	if v := verify.Image(t.Context(), layout, "v1.2.0", time.Now(), opts); v.Outcome != verify.Accepted {
		t.Errorf("an image of another name: got %s, %q", v.Outcome, v.Why())
	}
	path := filepath.Join(layout.Name(), "index.json")
	index, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index = bytes.Replace(index, []byte(`"org.opencontainers.image.ref.name":"other"`), []byte(`"io.containerd.image.name":"app:v1.2.0"`), 1)
	if err := os.WriteFile(path, index, 0o600); err != nil {
		t.Fatal(err)
	}
	v := verify.Image(t.Context(), layout, "v1.2.0", time.Now(), opts)
	if l := link(t, v, verify.LinkImage); v.Outcome != verify.Rejected || l.Status != verify.Broken || !strings.Contains(l.Reason, other.Digest.String()) {
		t.Errorf("an image that containerd takes for the name: got %s, %+v", v.Outcome, l)
	}
}

// TestNamesThatAreNotThere: the verdict says what was asked for, and is no rejection.
func TestNamesThatAreNotThere(t *testing.T) {
	p, store := prooftest.New(t), prooftest.NewStore(t)
	opts := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, policy.Document{Source: prooftest.Source})}
	digest := "sha256:" + strings.Repeat("ab", 32)
	for reference, want := range map[string]string{"v9": `has no tag "v9"`, digest: "has no " + digest} {
		v := verify.Image(t.Context(), store, reference, time.Now(), opts)
		if v.Outcome != verify.Undecided || !strings.Contains(v.Why(), want) || v.Hint == "" || !strings.HasSuffix(v.Image, reference) {
			t.Errorf("%s: got %s, %q, want %q", reference, v.Outcome, v.Why(), want)
		}
	}
}

// A list names exactly the files, whatever their names are.
func TestList(t *testing.T) {
	file := func(name string) verify.File { f := fileOf([]byte(name)); f.Name = name; return f }
	d := verify.Directory{Files: []verify.File{file("b"), file("a/c"), file("*x"), file(" y")}}
	raw, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	d.Raw = raw
	if err := d.CheckList(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*verify.Directory){
		"a file more": func(d *verify.Directory) { d.Files = append(d.Files, file("d")) },
		"a file less": func(d *verify.Directory) { d.Files = d.Files[1:] },
		"another": func(d *verify.Directory) {
			d.Files = append([]verify.File{file("a")}, d.Files[1:]...)
			d.Files[0].Name = "b"
		},
		"no list": func(d *verify.Directory) { d.Raw = nil },
	} {
		bent := d
		change(&bent)
		if err := bent.CheckList(); err == nil {
			t.Errorf("%s: the list is taken", name)
		}
	}
	evil := file("a").Digest.Hex
	for _, name := range []string{"a\n" + evil + "  b", "a\nb", "a\r", "../a", "/a", "./a", "a//b", ""} {
		d := verify.Directory{Files: []verify.File{file("b"), file(name)}}
		if raw, err := d.List(); err == nil {
			t.Errorf("%q: got the list %q", name, raw)
		}
	}
	if raw, err := (verify.Directory{}).List(); err == nil {
		t.Errorf("no file: got the list %q", raw)
	}
}
