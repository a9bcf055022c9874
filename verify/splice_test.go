package verify_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// A spot is one place in a JSON document: what it holds, and how to change it.
type spot struct {
	path  string
	value any
	set   func(any)
	drop  func()
}

// spots lists every place below the root, in the order of their paths.
func spots(t testing.TB, tree any) []spot {
	var all []spot
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case map[string]any:
			for name, value := range n {
				all = append(all, spot{path + "/" + name, value, func(v any) { n[name] = v }, func() { delete(n, name) }})
				walk(path+"/"+name, value)
			}
		case []any:
			for i, value := range n {
				all = append(all, spot{path + "/*", value, func(v any) { n[i] = v }, func() { n[i] = nil }})
				walk(path+"/*", value)
			}
		}
	}
	walk("", tree)
	sort.SliceStable(all, func(i, j int) bool { return all[i].path < all[j].path })
	return all
}

// splice changes a JSON document as program says, three bytes a change: where,
// what, and with what of donor. Bytes at random hardly ever leave a bundle that
// anybody reads; parts of other good ones do.
func splice(t testing.TB, doc, donor, program []byte) []byte {
	for ; len(program) >= 3; program = program[3:] {
		var tree, other any
		if json.Unmarshal(doc, &tree) != nil || json.Unmarshal(donor, &other) != nil {
			return doc
		}
		mine, theirs := spots(t, tree), spots(t, other)
		if len(mine) == 0 || len(theirs) == 0 {
			return doc
		}
		at, with := mine[int(program[0])%len(mine)], int(program[2])
		switch program[1] % 8 {
		case 0:
			at.drop()
		case 1: // the same place of the donor
			for _, s := range theirs {
				if s.path == at.path {
					at.set(s.value)
				}
			}
		case 2: // any place of the donor
			at.set(theirs[with%len(theirs)].value)
		case 3: // once more
			if list, ok := at.value.([]any); ok && len(list) > 0 {
				at.set(append(slices.Clone(list), list[with%len(list)]))
			}
		case 4: // the donor's beside it
			for _, s := range theirs {
				list, ok := at.value.([]any)
				if more, ok2 := s.value.([]any); ok && ok2 && s.path == at.path {
					at.set(append(slices.Clone(list), more...))
				}
			}
		case 5: // one bit of bytes
			if text, ok := at.value.(string); ok {
				if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
					raw[with%len(raw)] ^= 1 << (with % 8)
					at.set(base64.StdEncoding.EncodeToString(raw))
				} else if len(text) > 0 {
					b := []byte(text)
					b[with%len(b)] ^= 1
					at.set(string(b))
				}
			}
		case 6:
			at.set([]any{nil, "", 0, "0", "1", true, []any{}, map[string]any{}, "2026-01-01T00:00:00Z"}[with%9])
		case 7: // another spelling of the same bytes
			if text, ok := at.value.(string); ok {
				at.set(strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text))
			}
		}
		out, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		doc = out
	}
	return doc
}

// TestSplice: the changes that the fuzz targets below make do change something,
// and leave good parts in place.
func TestSplice(t *testing.T) {
	doc, donor := []byte(`{"a":[{"b":"AAAA"}],"c":1}`), []byte(`{"a":[{"b":"BBBB"}],"c":2}`)
	for program, want := range map[string]string{
		"\x00\x00\x00": `{"c":1}`, "\x03\x01\x00": `{"a":[{"b":"AAAA"}],"c":2}`, "\x00\x03\x00": `{"a":[{"b":"AAAA"},{"b":"AAAA"}],"c":1}`,
		"\x00\x04\x00": `{"a":[{"b":"AAAA"},{"b":"BBBB"}],"c":1}`, "\x02\x05\x00": `{"a":[{"b":"AQAA"}],"c":1}`, "\x03\x02\x02": `{"a":[{"b":"AAAA"}],"c":"BBBB"}`,
	} {
		if got := splice(t, doc, donor, []byte(program)); string(got) != want {
			t.Errorf("%x: got %s, want %s", program, got, want)
		}
	}
}

// FuzzSecondOpinionOfSpliced is FuzzSecondOpinion for bundles and trusted roots
// put together from parts of good ones.
func FuzzSecondOpinionOfSpliced(f *testing.F) {
	var bundles, roots [][]byte
	for _, name := range []string{"happy-path-v0.3", "happy-path-v0.1", "happy-path-intoto-in-dsse-v3", "rekor2-happy-path", "integrated-time-in-future_fail", "signature-mismatch_fail"} {
		bundles = append(bundles, read(f, cases+name+"/bundle.sigstore.json"))
	}
	roots = append(roots, read(f, publicRoot), read(f, cases+"rekor2-happy-path/trusted_root.json"))
	content := sha256Of(read(f, cases+"a.txt"))
	digest, err := hex.DecodeString(content.Hex)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	good := 0
	for i, raw := range bundles {
		for j, material := range roots {
			r, err := trust.Parse(material)
			if err != nil {
				f.Fatal(err)
			}
			if _, err := verify.Artifact(raw, verify.Subject{Digest: content}, beacon, r.Material, now); err == nil {
				good++
			}
			f.Add(uint8(i), uint8(j), uint8(0), uint8(0), []byte{}, []byte{})
			f.Add(uint8(i), uint8(j), uint8(i+1), uint8(j+1), []byte{9, 1, 0}, []byte{3, 4, 0})
		}
	}
	if good < 3 {
		f.Fatalf("got %d good seeds, want at least 3", good)
	}
	f.Fuzz(func(t *testing.T, bundle, root, bundleDonor, rootDonor uint8, program, rootProgram []byte) {
		if len(program)+len(rootProgram) > 30 {
			return
		}
		raw := splice(t, bundles[int(bundle)%len(bundles)], bundles[int(bundleDonor)%len(bundles)], program)
		r, err := trust.Parse(splice(t, roots[int(root)%len(roots)], roots[int(rootDonor)%len(roots)], rootProgram))
		if err != nil {
			return
		}
		secondOpinion(t, raw, content, digest, r, now)
	})
}

// FuzzSecondOpinionOfReleases: an image whose proofs were spliced is accepted
// only if sigstore-go accepts each of the proofs about it.
func FuzzSecondOpinionOfReleases(f *testing.F) {
	p := prooftest.New(f)
	whole := p.Release(prooftest.NewStore(f))
	other := p.Release(prooftest.NewStore(f))
	other.Identity.Commit = strings.Repeat("cd", 20)
	stranger := prooftest.New(f)
	var bundles, donors [][]byte
	for _, kind := range prooftest.Kinds {
		bundles = append(bundles, p.Sign(whole.Identity, whole.Statement(kind)))
		donors = append(donors, p.Sign(other.Identity, other.Statement(kind)), stranger.Sign(whole.Identity, whole.Statement(kind)))
		f.Add(uint8(len(bundles)), uint8(len(donors)), []byte{})
		f.Add(uint8(len(bundles)), uint8(len(donors)), []byte{7, 1, 1})
	}
	r := p.Root()
	digest, err := hex.DecodeString(whole.Image.Digest.Hex)
	if err != nil {
		f.Fatal(err)
	}
	who := verify.Signer{Identity: prooftest.Builder, Issuer: prooftest.URL}
	opts := verify.Options{Trust: []*trust.Root{r}, Policy: demanded(f, policy.Document{Source: prooftest.Source}), Now: time.Now()}
	judge := func(t testing.TB, proofs [][]byte) *verify.Verdict {
		store := prooftest.NewStore(t)
		rel := p.Release(store)
		if rel.Image.Digest != whole.Image.Digest {
			t.Fatal("two images of the same bytes differ")
		}
		for i, raw := range proofs {
			rel.AttachBundle(prooftest.Kinds[i], raw)
		}
		return verify.Image(t.Context(), store, rel.Image.Digest.String(), opts)
	}
	if v := judge(f, bundles); v.Outcome != verify.Accepted {
		f.Fatalf("unbent: %s", v.Why())
	}
	f.Fuzz(func(t *testing.T, which, donor uint8, program []byte) {
		if len(program) > 30 {
			return
		}
		i := int(which) % len(bundles)
		proofs := slices.Clone(bundles)
		proofs[i] = splice(t, bundles[i], donors[int(donor)%len(donors)], program)
		if v := judge(t, proofs); v.Outcome != verify.Accepted {
			return
		}
		if err := plainly(proofs[i], digest, r.Material, who); err != nil && !bytes.Equal(proofs[i], bundles[i]) {
			t.Errorf("we accept, and sigstore-go does not: %v", err)
		}
		if b, err := attest.ParseBundle(proofs[i]); err != nil || b.Statement.PredicateType != prooftest.Kinds[i] {
			t.Errorf("accepted with %v in place of %s", err, prooftest.Kinds[i])
		}
	})
}
