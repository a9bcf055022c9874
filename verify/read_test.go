package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

// TestReadImage: every part is read once, with the size and platform that its name says,
// and the limits themselves are allowed.
func TestReadImage(t *testing.T) {
	s := newShelf(t)
	const image, index = types.OCIManifestSchema1, types.OCIImageIndex
	config := s.put(types.OCIConfigJSON, map[string]string{"os": "linux", "architecture": "amd64"})
	layer := s.put(types.OCILayer, []byte("layer"))
	sized := func(d v1.Descriptor, n int64) v1.Descriptor { d.Size = n; return d }
	manifest := func(config v1.Descriptor, layers ...v1.Descriptor) v1.Descriptor {
		return s.put(image, v1.Manifest{SchemaVersion: 2, MediaType: image, Config: config, Layers: layers})
	}
	artifact := func(n int64) v1.Descriptor {
		return manifest(sized(s.put("application/x-config", []byte("chart")), n))
	}
	on := func(d v1.Descriptor, platform string) v1.Descriptor {
		os, arch, _ := strings.Cut(platform, "/")
		d.Platform = &v1.Platform{OS: os, Architecture: arch}
		return d
	}
	list := func(all ...v1.Descriptor) v1.Descriptor {
		return s.put(index, v1.IndexManifest{SchemaVersion: 2, MediaType: index, Manifests: all})
	}
	many := func(n int, d v1.Descriptor) (all []v1.Descriptor) {
		for range n {
			all = append(all, d)
		}
		return all
	}
	gone := v1.Descriptor{MediaType: types.OCILayer, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}, Size: 1}
	good := manifest(config, layer)
	padded := s.put(types.OCIConfigJSON, []byte(`{"os":"linux","architecture":"amd64"}`+strings.Repeat(" ", limits.Config-37)))
	for name, test := range map[string]struct {
		d         v1.Descriptor
		platforms string
		want      error
	}{
		"image":                  {good, "linux/amd64", nil},
		"index":                  {list(on(good, "linux/amd64")), "linux/amd64", nil},
		"no platform":            {list(good), "linux/amd64", nil},
		"attestations":           {list(on(good, "linux/amd64"), on(good, "unknown/unknown")), "linux/amd64 attachment", nil},
		"largest configuration":  {manifest(padded), "linux/amd64", nil},
		"most layers":            {manifest(config, many(limits.Layers, layer)...), "linux/amd64", nil},
		"most manifests":         {list(many(limits.IndexManifests, good)...), strings.TrimSuffix(strings.Repeat("linux/amd64 ", limits.IndexManifests), " "), nil},
		"no platform at all":     {manifest(s.put(types.OCIConfigJSON, []byte("{}"))), "no platform", nil},
		"another os":             {list(on(good, "windows/amd64")), "", errImage},
		"another architecture":   {list(on(good, "linux/arm64")), "", errImage},
		"no manifest":            {list(), "", errImage},
		"more manifests":         {list(many(limits.IndexManifests+1, good)...), "", errImage},
		"nested index":           {list(list(good)), "", errImage},
		"index that is none":     {s.put(index, []byte(`{"manifests":[],"manifests":[]}`)), "", errImage},
		"manifest that is none":  {s.put(image, []byte(`{`)), "", errImage},
		"more layers":            {manifest(config, many(limits.Layers+1, layer)...), "", errImage},
		"layer of negative size": {manifest(config, sized(layer, -1)), "", errImage},
		"layer too large":        {manifest(config, sized(layer, limits.LayerPacked+1)), "", errImage},
		"layer, largest":         {manifest(config, sized(layer, limits.LayerPacked)), "", oci.ErrMismatch},
		"layer is longer":        {manifest(config, sized(layer, 4)), "", oci.ErrMismatch},
		"layer is shorter":       {manifest(config, sized(layer, 6)), "", oci.ErrMismatch},
		"one of two sizes":       {manifest(config, layer, sized(layer, 6)), "", oci.ErrMismatch},
		"layer is gone":          {manifest(config, gone), "", oci.ErrNotFound},
		"manifest is gone":       {list(gone), "", oci.ErrNotFound},
		"image is gone":          {gone, "", oci.ErrNotFound},
		"configuration is gone":  {manifest(gone), "", oci.ErrNotFound},
		"config too large":       {manifest(sized(config, limits.Config+1)), "", errImage},
		"config of size -1":      {manifest(sized(config, -1)), "", errImage},
		"config that is none":    {manifest(s.put(types.OCIConfigJSON, []byte(`{"os":"a","os":"b"}`))), "", errImage},
		"empty layer":            {manifest(config, s.put(types.OCILayer, []byte(""))), "linux/amd64", nil},
		"empty artifact":         {manifest(s.put("application/x-empty", []byte(""))), "artifact of type application/x-empty", nil},
		"its config is gone":     {manifest(v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: gone.Digest, Size: 1}), "", oci.ErrNotFound},
		"artifact":               {artifact(5), "artifact of type application/x-config", nil},
		"artifact of size -1":    {artifact(-1), "", errImage},
		"artifact too large":     {artifact(limits.Config + 1), "", errImage},
		"artifact is shorter":    {artifact(limits.Config), "", oci.ErrMismatch},
		"config grew":            {manifest(sized(s.put(types.OCIConfigJSON, bytes.Repeat([]byte(" "), limits.Config+1)), 5)), "", errors.ErrUnsupported},
	} {
		got, err := readImage(t.Context(), s, test.d.Digest, Options{})
		switch {
		case test.want == nil:
			if err != nil || strings.Join(got.platforms, " ") != test.platforms {
				t.Errorf("%s: got %v, %v, want %s", name, got, err, test.platforms)
			}
		case err == nil, test.want != errors.ErrUnsupported && !errors.Is(err, test.want):
			t.Errorf("%s: got %v, %v, want %v", name, got, err, test.want)
		}
	}
	clear(s.read)
	if _, err := readImage(t.Context(), s, list(many(3, manifest(config, layer, layer))...).Digest, Options{}); err != nil || s.read[layer.Digest] != 1 {
		t.Errorf("one layer six times: got %v, read %d times, want once", err, s.read[layer.Digest])
	}
	c := &check{src: s}
	for name, test := range map[string]struct {
		d  v1.Descriptor
		ok bool
	}{
		"lock": {layer, true}, "empty": {s.put(types.OCILayer, []byte("")), true}, "negative": {sized(layer, -1), false}, "too large": {sized(layer, limits.Lock+1), false}, "largest, but shorter": {sized(layer, limits.Lock), false}, "gone": {gone, false},
		"inline, as many":     {v1.Descriptor{Digest: layer.Digest, Size: layer.Size, Data: []byte("other")}, false},
		"inline, other bytes": {v1.Descriptor{Digest: layer.Digest, Size: 1, Data: []byte("x")}, false},
	} {
		err := c.readLock(t.Context(), test.d)
		if (err == nil) != test.ok || err != nil && strings.Contains(err.Error(), "size of the lock") != (name == "negative" || name == "too large") {
			t.Errorf("lock, %s: got %v, want it read: %v", name, err, test.ok)
		}
	}
}

// cutOff is a source whose blobs break off, and which denies nothing else.
type cutOff struct{ *shelf }

func (c cutOff) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	raw, err := c.get(d.Digest)
	return io.NopCloser(io.MultiReader(bytes.NewReader(raw[:len(raw)/2]), iotest.ErrReader(errWrong))), err
}

// TestImageBreaksOff: an image that was not read to its end is not a malformed one.
func TestImageBreaksOff(t *testing.T) {
	s := newShelf(t)
	config := s.put(types.OCIConfigJSON, map[string]string{"os": "linux", "architecture": "amd64"})
	for name, config := range map[string]v1.Descriptor{"image": config, "artifact": s.put("application/x-config", []byte("chart"))} {
		d := s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config})
		if _, err := readImage(t.Context(), cutOff{s}, d.Digest, Options{}); !errors.Is(err, errWrong) || statusOf(err) != Unknown {
			t.Errorf("%s: got %v, %v, want that nothing is known", name, err, statusOf(err))
		}
	}
}

// lyingTags is a source whose tags name what has other bytes.
type lyingTags struct{ *shelf }

func (lyingTags) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{}, oci.ErrMismatch
}

// TestTagOfOtherBytes: a reference whose content is wrong is rejected, and one that is not
// there is undecided: a registry may deny what it has.
func TestTagOfOtherBytes(t *testing.T) {
	opts := Options{Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: keyOf(t, true)}}}
	if v := Image(t.Context(), lyingTags{newShelf(t)}, "v1", noon, opts); v.Outcome != Rejected {
		t.Errorf("other bytes: got %v, %+v", v.Outcome, v.Links)
	}
	if v := Image(t.Context(), newShelf(t), "v1", noon, opts); v.Outcome != Undecided || v.Hint == "" {
		t.Errorf("not there: got %v, hint %q", v.Outcome, v.Hint)
	}
	if v := Image(t.Context(), &deaf{shelf: newShelf(t), err: errWrong}, "v1", noon, opts); v.Outcome != Undecided || v.Hint != "" || !strings.HasSuffix(v.Why(), "v1: it is wrong") {
		t.Errorf("no answer: got %v, %s, hint %q", v.Outcome, v.Why(), v.Hint)
	}
	opts.Layout = true
	if v := Image(t.Context(), newShelf(t), "v1", noon, opts); v.Outcome != Undecided || strings.Contains(v.Why(), "registry") {
		t.Errorf("not in a layout: got %v, %s", v.Outcome, v.Why())
	}
}

// TestReadOfTheInside: proofs of a manifest in an index are about all that it has, so that
// other entries of the index do not matter.
func TestReadOfTheInside(t *testing.T) {
	index, inner := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "a"}}, v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "b"}}
	for d, part := range map[*v1.Descriptor]bool{&index: true, &inner: false} {
		c := &check{read: reading{platforms: []string{"linux/amd64"}, missing: []string{"linux/arm64"}, others: true}}
		c.inside(&Verdict{}, &Link{}, index, *d)
		if c.read.part() != part || len(c.read.platforms) != 1 {
			t.Errorf("%s: got %+v, want a part: %v", d.Digest, c.read, part)
		}
	}
}

// TestGatherIsBounded: past the cap, what is attached is not read, and so nothing is known
// about it. The small items come first.
func TestGatherIsBounded(t *testing.T) {
	s := newShelf(t)
	subject := s.put(types.OCIManifestSchema1, []byte("image"))
	attach := func(layer v1.Descriptor) {
		d := s.put(types.OCIManifestSchema1, map[string]any{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": attest.BundleMediaType,
			"config": subject, "layers": []v1.Descriptor{layer}, "subject": subject})
		// The shelf names things by their type, too; referrers are read by digest.
		sum := sha256.Sum256(s.blobs[d.Digest])
		h := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
		s.blobs[h], s.types[h] = s.blobs[d.Digest], d.MediaType
		s.list = append(s.list, v1.Descriptor{Digest: h})
	}
	most := maxGathered / limits.Bundle
	for i := range most + 10 {
		attach(v1.Descriptor{MediaType: attest.BundleMediaType, Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064x", i)}, Size: limits.Bundle})
	}
	attach(s.put(attest.BundleMediaType, []byte("small")))
	attach(v1.Descriptor{MediaType: "application/x-note", Digest: subject.Digest, Size: 1 << 40})
	c := &check{src: s, now: noon, opts: Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{}}}}
	ev := c.gather(t.Context(), subject.Digest)
	unread, gone, parsed := 0, 0, 0
	for _, it := range ev.items {
		switch {
		case it.unread && strings.Contains(it.err.Error(), "not read: what is attached"):
			unread++
		case errors.Is(it.err, oci.ErrNotFound) && !it.unread:
			gone++
		case it.err != nil && !it.unread:
			parsed++
		}
	}
	if unread != 11 || gone != most-1 || parsed < 1 {
		t.Errorf("got %d not read, %d that are gone, %d wrong of %d; want 11, %d and the small one", unread, gone, parsed, len(ev.items), most-1)
	}
	// As much as is read, to the byte.
	s.list = s.list[:most]
	for _, it := range c.gather(t.Context(), subject.Digest).items {
		if it.unread {
			t.Errorf("within the cap: %v", it.err)
		}
	}
	for n, layers := range map[int64][]v1.Descriptor{
		0: {{MediaType: "application/x-note", Size: 5}, {MediaType: attest.BundleMediaType, Size: -5}}, 12: {{MediaType: attest.BundleMediaType, Size: 5}, {MediaType: attest.EnvelopeMediaType, Size: 7}}, limits.Bundle: {{MediaType: attest.SimpleSigningMediaType, Size: 1 << 50}},
	} {
		if got := signedSize(oci.Attached{Layers: layers}); got != n {
			t.Errorf("size of %+v: got %d, want %d", layers, got, n)
		}
	}
}

// TestPublicBuildersByName: only one name, of a workflow or pipeline, under a root that
// names no builders, is judged by the rules for public builders.
func TestPublicBuildersByName(t *testing.T) {
	named := func(names ...string) *bundle.Bundle {
		cert := &x509.Certificate{}
		for _, n := range names {
			u, err := url.Parse(n)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		return &bundle.Bundle{Certificate: cert}
	}
	const github, gitlab, platform = "https://github.com/a/b/.github/workflows/c.yml@refs/tags/v1", "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main", "https://p.example.com/builders/x"
	plain, own := []*trust.Root{{}}, []*trust.Root{{Builders: []trust.Builder{{ID: platform}}}}
	for name, test := range map[string]struct {
		b     *bundle.Bundle
		roots []*trust.Root
		want  bool
	}{
		"workflow": {named(github), plain, true}, "pipeline": {named(gitlab), plain, true}, "platform": {named(platform), plain, false}, "two names": {named(github, platform), plain, false}, "twice": {named(github, github), plain, false},
		"no name": {named(), plain, false}, "key": {&bundle.Bundle{}, plain, false}, "no plain root": {named(github), own, false},
	} {
		c := &check{opts: Options{Trust: test.roots}}
		if got := c.ofPublicBuilder(test.b); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// TestFilesOfADirectory: every file is in the list or has its own proof, and what the list
// names is there.
func TestFilesOfADirectory(t *testing.T) {
	hash := func(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(c, 64)} }
	file := func(name, c string) File { return File{Name: name, Digest: hash(c)} }
	for name, test := range map[string]struct {
		d               Directory
		sums            map[string]v1.Hash
		wrong, unlisted string
	}{
		"as listed":           {Directory{Files: []File{file("a", "1")}}, map[string]v1.Hash{"a": hash("1")}, "", ""},
		"changed":             {Directory{Files: []File{file("a", "2")}}, map[string]v1.Hash{"a": hash("1")}, "a: got", ""},
		"missing":             {Directory{Files: []File{file("a", "1")}}, map[string]v1.Hash{"a": hash("1"), "b": hash("1")}, "b is missing", ""},
		"unlisted":            {Directory{Files: []File{file("a", "1"), file("b", "1")}}, map[string]v1.Hash{"a": hash("1")}, "", "b"},
		"the first of all":    {Directory{Files: []File{file("b", "1")}}, map[string]v1.Hash{}, "", "b"},
		"unlisted bundle":     {Directory{Evidence: []File{file("b", "1")}, Files: []File{file("a", "1")}}, map[string]v1.Hash{"a": hash("1")}, "", ""},
		"changed bundle":      {Directory{Evidence: []File{file("b", "2")}}, map[string]v1.Hash{"b": hash("1")}, "b: got", ""},
		"bundle as listed":    {Directory{Evidence: []File{file("b", "1")}}, map[string]v1.Hash{"b": hash("1")}, "", ""},
		"nothing but bundles": {Directory{Evidence: []File{file("b", "1")}}, map[string]v1.Hash{}, "", ""},
	} {
		wrong, unlisted := test.d.compare(test.sums)
		var names []string
		for _, f := range unlisted {
			names = append(names, f.Name)
		}
		if got := strings.Join(wrong, "; "); !strings.HasPrefix(got, test.wrong) || (got == "") != (test.wrong == "") || strings.Join(names, " ") != test.unlisted {
			t.Errorf("%s: got %q and unlisted %q, want %q and %q", name, got, names, test.wrong, test.unlisted)
		}
	}
	judged := func(outcomes ...Outcome) (*Verdict, int) {
		n := 0
		var files []File
		for i := range outcomes {
			files = append(files, file(fmt.Sprint("f", i), "1"))
		}
		return eachFile(Directory{Name: "dir", Files: files}, func(File) *Verdict {
			n++
			return &Verdict{Image: "f", Digest: "d", Outcome: outcomes[n-1], Links: []Link{{Name: LinkFile, Claim: "5 bytes"}}}
		}), n
	}
	for name, test := range map[string]struct {
		outcomes []Outcome
		want     Outcome
		claim    string
		asked    int
	}{
		"all": {[]Outcome{Accepted, Accepted}, Accepted, "2 files, each with a proof of its own", 2}, "second": {[]Outcome{Accepted, Rejected, Accepted}, Rejected, "f1, 5 bytes", 2}, "undecided": {[]Outcome{Undecided, Accepted}, Undecided, "f0, 5 bytes", 1},
		"none": {nil, Rejected, "", 0},
	} {
		v, asked := judged(test.outcomes...)
		if v.Outcome != test.want || v.Links[0].Claim != test.claim || asked != test.asked || v.Image != "dir" || v.Digest != "" {
			t.Errorf("%s: got %+v after %d files, want %s, %q", name, v, asked, test.want, test.claim)
		}
	}
}

// TestHints: what to do depends on what is there.
func TestHints(t *testing.T) {
	unknown, known, valid := &item{proofs: []*proof{signedProof(1, errWrong, nil, nil)}}, &item{proofs: []*proof{signedProof(2, errWrong, nil, nil)}}, &item{proofs: []*proof{signedProof(0, nil, nil, nil)}}
	chosen := &item{proofs: []*proof{signedProof(5, nil, nil, fmt.Errorf("x: %w", &policy.ChosenError{}))}}
	for name, test := range map[string]struct {
		outcome Outcome
		ev      evidence
		want    string
	}{
		"accepted":           {Accepted, evidence{}, ""},
		"not listed":         {Undecided, evidence{err: errWrong}, ""},
		"nothing":            {Rejected, evidence{items: []*item{{}}}, "nothing that proves its origin"},
		"nobody trusted":     {Rejected, evidence{items: []*item{unknown, {}, unknown}}, "by nobody whom this machine trusts"},
		"somebody trusted":   {Rejected, evidence{items: []*item{unknown, known}}, ""},
		"valid":              {Rejected, evidence{items: []*item{unknown, valid}}, ""},
		"chosen recipe":      {Rejected, evidence{items: []*item{unknown, chosen}}, "if that is the recipe"},
		"accepted, chosen":   {Accepted, evidence{items: []*item{chosen}}, ""},
		"not listed, chosen": {Undecided, evidence{items: []*item{chosen}, err: errWrong}, ""},
	} {
		v := &Verdict{Outcome: test.outcome}
		if v.hint(&test.ev); !strings.Contains(v.Hint, test.want) || (v.Hint == "") != (test.want == "") {
			t.Errorf("%s: got %q, want %q", name, v.Hint, test.want)
		}
	}
}

// TestClaimsAreBounded: everybody may write claims, so no more than 64 are listed, and
// what cannot be read is left out.
func TestClaimsAreBounded(t *testing.T) {
	s := newShelf(t)
	statement := func(kind, predicate string, subjects int) v1.Descriptor {
		list := strings.TrimSuffix(strings.Repeat(`{"name":"a","digest":{"sha256":"`+strings.Repeat("ab", 32)+`"}},`, subjects), ",")
		raw := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[%s],"predicateType":%q,"predicate":%s}`, list, kind, predicate)
		sum := sha256.Sum256(raw)
		return v1.Descriptor{MediaType: "application/vnd.in-toto+json", Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(raw)), Data: raw}
	}
	note := v1.Descriptor{MediaType: "application/x-note", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("aa", 32)}, Size: 1}
	image := func(n int, layers ...v1.Descriptor) v1.Hash {
		m := s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, Config: note, Layers: layers})
		var index v1.IndexManifest
		for range n {
			m.Annotations = map[string]string{attest.DockerReferenceType: attest.DockerAttestation}
			index.Manifests = append(index.Manifests, m)
		}
		return s.put(types.OCIImageIndex, index).Digest
	}
	one := statement(attest.PredicateSLSA1, `{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://a.example.com/b"},{"uri":"pkg:x"}]},"runDetails":{"builder":{"id":"me"}}}`, 1)
	if got := Claims(t.Context(), s, image(1, note, one, note), true); len(got) != 1 || got[0].Says != "me, 2 dependencies git+https://a.example.com/b" {
		t.Errorf("got %+v, want one claim", got)
	}
	// A claim that is listed about a manifest with another digest than its subject, or about one of elsewhere.
	platform := s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, Config: note})
	for about, want := range map[string]string{platform.Digest.String(): "its subject is sha256:abab", "sha256:" + strings.Repeat("ab", 32): "not in this index"} {
		m := s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, Config: note, Layers: []v1.Descriptor{one}})
		m.Annotations = map[string]string{attest.DockerReferenceType: attest.DockerAttestation, attest.DockerReferenceDigest: about}
		index := s.put(types.OCIImageIndex, v1.IndexManifest{Manifests: []v1.Descriptor{platform, m}})
		if got := Claims(t.Context(), s, index.Digest, true); len(got) != 1 || !strings.Contains(got[0].Says, want) {
			t.Errorf("about %s: got %+v, want %q", about, got, want)
		}
	}
	unmarked := s.put(types.OCIImageIndex, v1.IndexManifest{Manifests: []v1.Descriptor{s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, Config: note, Layers: []v1.Descriptor{one}})}})
	if got := Claims(t.Context(), s, unmarked.Digest, true); len(got) != 0 {
		t.Errorf("an entry that is no attestation: got %+v", got)
	}
	// One more entry says that there are more.
	more := func(claims []Claim) bool { return len(claims) == maxClaims+1 && claims[maxClaims].Form == "not listed" }
	for _, n := range []int{maxClaims, maxClaims + 1, maxClaims + 2} {
		if got := Claims(t.Context(), s, image(n, one), false); len(got) < maxClaims || more(got) != (n > maxClaims) || got[0].Says != "" {
			t.Errorf("%d manifests: got %d claims, want %d, and an entry about the others", n, len(got), maxClaims)
		}
	}
	var many []v1.Descriptor
	for range maxClaims + 1 {
		many = append(many, one)
	}
	if got := Claims(t.Context(), s, image(1, many...), false); !more(got) {
		t.Errorf("a manifest of many: got %d claims, want %d, and an entry about the others", len(got), maxClaims)
	}
	for len(many) <= limits.Layers {
		many = append(many, note)
	}
	if got := Claims(t.Context(), s, image(1, many...), false); len(got) != 0 {
		t.Errorf("a manifest of too many layers: got %d claims, want none", len(got))
	}
	if got := Claims(t.Context(), s, image(1, many[1:]...), false); len(got) != maxClaims {
		t.Errorf("a manifest of most layers: got %d claims, want %d", len(got), maxClaims)
	}
	for name, h := range map[string]v1.Hash{
		"no index": s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, Config: note, Layers: []v1.Descriptor{one}}).Digest, "gone": note.Digest, "malformed": s.put(types.OCIImageIndex, []byte(`{`)).Digest,
	} {
		if got := Claims(t.Context(), s, h, true); len(got) != 0 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for want, l := range map[string]v1.Descriptor{
		"": statement(attest.PredicateSPDX, "{}", 1), "no subject": statement(attest.PredicateSLSA1, "{}", 0), "no builder, 0 dependencies": statement(attest.PredicateSLSA1, "{}", 1), "not found": {Digest: note.Digest, Size: 1},
		"me, 1 dependencies https://a.example.com/b.git": statement(attest.PredicateSLSA02, `{"builder":{"id":"me"},"materials":[{"uri":"https://a.example.com/b.git"}]}`, 1),
		"duplicate": statement(attest.PredicateSLSA1, `{"builder":{"id":"a"},"builder":{"id":"b"}}`, 1),
	} {
		if got := says(t.Context(), s, l, ""); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestTagsOfCosign: the old tags are asked for only where they may hold something that the
// policy demands.
func TestTagsOfCosign(t *testing.T) {
	plain, own := []*trust.Root{{}}, []*trust.Root{{Builders: []trust.Builder{{ID: "x"}}}}
	builder := policy.Policy{Origin: policy.BuilderProvenance{}}
	demands, verifier := builder, builder
	demands.Attestations, verifier.Verifiers = []policy.Attestation{{}}, []policy.Verifier{{}}
	for name, test := range map[string]struct {
		p     policy.Policy
		roots []*trust.Root
		want  int
	}{
		"platforms": {builder, own, 0}, "public builders": {builder, plain, 1}, "attestation": {demands, own, 2}, "verifier": {verifier, own, 2}, "signer": {policy.Policy{Origin: policy.SignatureOnly{}}, own, 2}, "signer's provenance": {policy.Policy{Origin: policy.SignerProvenance{}}, own, 2},
		"a verifier alone": {policy.Policy{Origin: policy.SummaryOnly{}}, own, 0},
	} {
		c := &check{opts: Options{Policy: test.p, Trust: test.roots}}
		if got := c.cosignTags(); len(got) != test.want {
			t.Errorf("%s: got %v, want %d", name, got, test.want)
		}
	}
}

// TestExplainedByTheOptions: an explanation names the roots, signers and verifiers that
// these options trust, and no others.
func TestExplainedByTheOptions(t *testing.T) {
	plain, own := &trust.Root{Fingerprint: "sha256:bb"}, &trust.Root{URL: "https://p.example.com", Fingerprint: "sha256:aa", Builders: []trust.Builder{{ID: "https://p.example.com/builders/x"}}}
	for name, test := range map[string]struct {
		roots  []*trust.Root
		want   string
		public bool
	}{
		"platform": {[]*trust.Root{own}, "platform https://p.example.com sha256:aa; signer https://p.example.com/builders/x", false}, "plain": {[]*trust.Root{plain}, "Sigstore trusted root sha256:bb; signer a public builder", true},
		"both": {[]*trust.Root{own, plain}, "sha256:aa, Sigstore trusted root sha256:bb; signer https://p.example.com/builders/x or a public builder", true}, "none": {nil, "no trust root; no signer is trusted", false},
	} {
		got := Options{Trust: test.roots, Policy: policy.Policy{Origin: policy.BuilderProvenance{}}}.Explain(LinkSignature, noon).Against
		if !strings.Contains(got, test.want) || strings.Contains(got, "public builder") != test.public {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	for demand, named := range map[policy.SBOM]bool{policy.SBOMContents: true, policy.SBOMOptional: false, policy.SBOMRequired: false} {
		e := Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{SBOM: demand}}}.Explain(LinkSBOM, noon)
		if strings.Contains(e.Rule, "a package that only the document or only the image has breaks it") != named || strings.Contains(e.Against, "what is installed in the image") != named {
			t.Errorf("SBOM, contents demanded: %v: got %+v", named, e)
		}
		if strings.Contains(e.Rule, "but not of workflows on GitHub") != (demand == policy.SBOMRequired) {
			t.Errorf("SBOM, %v: got %q", demand, e.Rule)
		}
	}
	opts := Options{Trust: []*trust.Root{own}, SourceCheck: nil, Policy: policy.Policy{Verifiers: []policy.Verifier{{ID: "https://v.example.com", Signer: policy.Identity{Name: "v", Issuer: "i"}}}}}
	if got := opts.Explain(LinkSummary, noon).Against; !strings.Contains(got, "verifier https://v.example.com, signed by v") || !strings.Contains(got, "sha256:aa") {
		t.Errorf("summary: got %q", got)
	}
	if got := (Options{Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: policy.Key{}}}}).unlogged(); got != "" {
		t.Errorf("a key in the log: got %q", got)
	}
}

// TestReadiness: too little to verify with is said at once.
func TestReadiness(t *testing.T) {
	root := &trust.Root{Fingerprint: "sha256:aa"}
	for name, test := range map[string]struct {
		c    check
		want string
	}{
		"no roots": {check{now: noon}, trust.ErrEmpty.Error()}, "no time": {check{opts: Options{Trust: []*trust.Root{root}}}, "time of verification is not set"}, "no policy": {check{now: noon, opts: Options{Trust: []*trust.Root{root}}}, ""},
		"at most": {check{now: time.Time{}, opts: Options{}}, trust.ErrEmpty.Error()},
	} {
		if err := test.c.ready(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if got := (&check{opts: Options{Layout: true}}).serves(); got != "the layout holds" {
		t.Errorf("got %q", got)
	}
	if got := (&check{}).serves(); got != "the registry serves" {
		t.Errorf("got %q", got)
	}
	for media, want := range map[types.MediaType]string{types.OCIImageIndex: aboutIndex, types.OCIManifestSchema1: aboutManifest} {
		if got := aboutOf(v1.Descriptor{MediaType: media}); got != want {
			t.Errorf("%s: got %s, want %s", media, got, want)
		}
	}
	v := &Verdict{Links: []Link{{Name: LinkProvenance, Status: Unknown, Reason: "r"}}}
	c := &check{}
	if c.fillRequirements(v, set{}); v.Requirements[0].Status == "" || v.Level != 0 {
		t.Errorf("got %+v", v)
	}
	status := func(s Status) provenance.Met {
		v := &Verdict{Links: []Link{{Name: LinkProvenance, Status: s, Reason: "r"}}}
		c.fillRequirements(v, set{})
		for _, r := range v.Requirements {
			if r.Evidence == "r" {
				return r.Status
			}
		}
		return ""
	}
	for s, want := range map[Status]provenance.Met{Unknown: provenance.NotKnown, Absent: provenance.NotMet, Broken: provenance.NotMet, NotAsked: ""} {
		if got := status(s); got != want {
			t.Errorf("provenance %s: got %q, want %q", s, got, want)
		}
	}
}
