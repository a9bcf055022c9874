package mirror

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// pusher is a log that pushes, written from the specification alone.
type pusher struct {
	t      *testing.T
	log    *logtest.Log
	dir    string
	m      *Mirror
	bend   func(index int64, p []byte) []byte // changes packages
	packed bool
}

func newPusher(t *testing.T, size int) *pusher {
	p := &pusher{t: t, log: logtest.New(origin, size), dir: filepath.Join(t.TempDir(), "m")}
	p.restart()
	return p
}

// restart starts the mirror, again if it ran.
func (p *pusher) restart() {
	p.t.Helper()
	if p.m != nil {
		_ = p.m.Close()
	}
	p.m = open(p.t, p.dir, nil, p.log)
}

func (p *pusher) post(path string, body []byte, header ...string) *httptest.ResponseRecorder {
	p.t.Helper()
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/octet-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.m.Handler().ServeHTTP(w, r)
	return w
}

// checkpoint sends the checkpoint of a size, which extends that of old.
func (p *pusher) checkpoint(l *logtest.Log, old, size int64) *httptest.ResponseRecorder {
	p.t.Helper()
	r := witness.Request{Old: old, Checkpoint: l.Signed(size)}
	if old > 0 {
		var err error
		if r.Proof, err = tlog.Consistency(p.t.Context(), l, old, l.At(size)); err != nil {
			p.t.Fatal(err)
		}
	}
	return p.post("/add-checkpoint", r.Marshal())
}

// entries returns the leaf hashes and the entries of a log.
func entriesOf(t *testing.T, l *logtest.Log, size int64) (entries [][]byte, leaves []tlog.Hash) {
	t.Helper()
	for tile := int64(0); tile*tlog.TileWidth < size; tile++ {
		at, _ := tlog.Tile{Level: tlog.Entries, Index: tile}.At(size)
		data, err := tlog.ReadTile(t.Context(), l, at)
		if err != nil {
			t.Fatal(err)
		}
		some, err := tlog.SplitEntries(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range some {
			entries, leaves = append(entries, e), append(leaves, tlog.LeafHash(e))
		}
	}
	return entries, leaves
}

// treeHash and subtreeProof are MTH and SUBTREE_PROOF of draft-ietf-plants-merkle-tree-certs.
func treeHash(d []tlog.Hash) tlog.Hash {
	if len(d) == 1 {
		return d[0]
	}
	k := split(len(d))
	return merkle.NodeHash(treeHash(d[:k]), treeHash(d[k:]))
}

func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func subtreeProof(start, end int, d []tlog.Hash) []tlog.Hash {
	if start == 0 && end == len(d) {
		return nil
	}
	switch k := split(len(d)); {
	case end <= k:
		return append(subtreeProof(start, end, d[:k]), treeHash(d[k:]))
	case start >= k:
		return append(subtreeProof(start-k, end-k, d[k:]), treeHash(d[:k]))
	}
	panic("the subtree is no node of the tree")
}

func head(origin string, start, end int64) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(origin)))
	b = append(b, origin...)
	b = binary.BigEndian.AppendUint64(b, uint64(start))
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	return append(b, 0, 3, 't', 'k', 't')
}

// body returns an upload of at most n packages.
func (p *pusher) body(l *logtest.Log, start, end int64, n int) []byte {
	entries, leaves := entriesOf(p.t, l, end)
	out := head(l.Origin, start, end)
	for at := start; at < end && n > 0; n-- {
		tile := at / 256
		to := min(end, (tile+1)*256)
		var pack []byte
		for _, e := range entries[at:to] {
			pack = append(binary.BigEndian.AppendUint16(pack, uint16(len(e))), e...)
		}
		proof := subtreeProof(int(tile*256), int(to), leaves)
		pack = append(pack, byte(len(proof)))
		for _, h := range proof {
			pack = append(pack, h[:]...)
		}
		if p.bend != nil {
			pack = p.bend(tile, pack)
		}
		out, at = append(out, pack...), to
	}
	return out
}

func (p *pusher) upload(start, end int64, n int) *httptest.ResponseRecorder {
	p.t.Helper()
	body := p.body(p.log, start, end, n)
	if !p.packed {
		return p.post("/add-entries", body)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body)
	_ = z.Close()
	return p.post("/add-entries", b.Bytes(), "Content-Encoding", "gzip")
}

// info reads the body of a 409 or 202.
func (p *pusher) info(w *httptest.ResponseRecorder, status int) (size, next int64) {
	p.t.Helper()
	if n, err := fmt.Sscanf(w.Body.String(), "%d\n%d\n\n", &size, &next); err != nil || n != 2 || w.Code != status || w.Header().Get("Content-Type") != "text/x.tlog.mirror-info" {
		p.t.Fatalf("got %d %s %q, want %d and where to go on", w.Code, w.Header().Get("Content-Type"), w.Body, status)
	}
	return size, next
}

// whole verifies the copy, as a reader of it does.
func (p *pusher) whole(size int64) {
	p.t.Helper()
	served := httptest.NewServer(p.m.Handler())
	defer served.Close()
	copied := tlog.HTTP{URL: served.URL + "/" + witness.OriginHash(origin)}
	signed, err := copied.Checkpoint(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	cp, err := tlog.OpenCheckpoint(signed, p.log.Verifier())
	if err != nil || cp.Size != size || cp.Root != p.log.At(size).Root {
		p.t.Fatalf("got %v, %v, want %d entries", cp, err, size)
	}
	for level := tlog.Entries; level <= 2; level++ {
		for index := int64(0); ; index++ {
			tile, ok := tlog.Tile{Level: level, Index: index}.At(size)
			if !ok {
				break
			}
			data, err := tlog.ReadTile(p.t.Context(), copied, tile)
			if err == nil {
				err = tlog.VerifyTile(p.t.Context(), copied, cp, tile, data)
			}
			if err != nil {
				p.t.Errorf("%s: %v", tile.Path(), err)
			}
		}
	}
}

// TestPush: a log pushes its entries, in parts, packed or not, and across starts of the mirror; the copy
// has all tiles, and the answer the cosignatures.
func TestPush(t *testing.T) {
	p := newPusher(t, 0)
	old := int64(0)
	for i, size := range []int64{1, 256, 300, 301, 512, 700, 20_000} {
		p.packed = i%2 == 1
		p.log.Grow(int(size))
		if w := p.checkpoint(p.log, old, size); w.Code != 200 || w.Body.Len() != 0 {
			t.Fatalf("checkpoint of %d: got %d %s", size, w.Code, w.Body)
		}
		next := old
		for try := 0; ; try++ {
			w := p.upload(next, size, 40)
			if w.Code == 200 {
				all, err := tlog.Cosignatures(slices.Concat(p.log.Signed(size), w.Body.Bytes()), p.m.Keys(), time.Now())
				if err != nil || len(all) != 2 {
					t.Errorf("got %q, %v, want the cosignatures of the mirror", w.Body, err)
				}
				break
			}
			end, to := p.info(w, 202)
			if end != size || to != next/256*256+maxPackages*256 {
				t.Fatalf("got %d and %d after an upload from %d", end, to, next)
			}
			if next = to; try == 1 {
				p.restart()
				if _, to := p.info(p.post("/add-entries", head(origin, 0, 0)), 409); to != next {
					t.Fatalf("after a start: got %d, want %d", to, next)
				}
			}
		}
		p.whole(size)
		if left, err := filepath.Glob(filepath.Join(p.dir, inboxDir, "*", "tile")); err != nil || len(left) != 0 {
			t.Errorf("the inbox still has %q, which the copy has", left)
		}
		old = size
	}
	p.restart()
	p.whole(old)
	// Again: nothing changes.
	if w := p.upload(old, old, 0); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// TestPushLarge: the tiles of hashes above the first level are right, also across a start.
func TestPushLarge(t *testing.T) {
	p := newPusher(t, 65536+300)
	size := p.log.Size()
	if w := p.checkpoint(p.log, 0, size); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	for next := int64(0); ; {
		w := p.upload(next, size, maxPackages)
		if w.Code == 200 {
			break
		}
		if _, next = p.info(w, 202); next == 65536 {
			p.restart()
		}
	}
	p.whole(size)
}

// TestPushSlowCommit: a client that has sent everything gets the cosignatures, also if it takes the mirror
// longer to make the copy than a client may take to send a package.
func TestPushSlowCommit(t *testing.T) {
	p := newPusher(t, 300)
	p.m.stall = 500 * time.Millisecond
	if w := p.checkpoint(p.log, 0, 300); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	web := httptest.NewServer(p.m.Handler())
	defer web.Close()
	c := p.m.copies[witness.OriginHash(origin)]
	c.following.Lock()
	time.AfterFunc(5*p.m.stall, c.following.Unlock)
	answer, err := http.Post(web.URL+"/add-entries", "application/octet-stream", bytes.NewReader(p.body(p.log, 0, 300, 2)))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("got %s", answer.Status)
	}
	p.whole(300)
}

// TestPushRefused: nothing that is not proven to be in the log is kept, and the answer says where to go on.
func TestPushRefused(t *testing.T) {
	p := newPusher(t, 1000)
	fork := p.log.Fork(600, 1000)
	if w := p.checkpoint(p.log, 0, 400); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if w := p.upload(0, 400, 9); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if w := p.checkpoint(p.log, 400, 1000); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	good := p.body(p.log, 400, 1000, 9)
	edit := func(at int) []byte { b := bytes.Clone(good); b[len(b)+at] ^= 1; return b }
	first := len(p.body(p.log, 400, 1000, 1))
	for name, c := range map[string]struct {
		body   []byte
		header []string
		want   int
	}{
		"no head":               {good[:20], nil, 400},
		"no package":            {good[:first-1], nil, 400},
		"another type":          {good, []string{"Content-Type", "text/plain"}, 415},
		"another encoding":      {good, []string{"Content-Encoding", "br"}, 415},
		"not packed":            {good, []string{"Content-Encoding", "gzip"}, 400},
		"end before start":      {head(origin, 400, 300), nil, 400},
		"a size past all":       {head(origin, 400, -1), nil, 400},
		"another log":           {bytes.Replace(good, []byte(origin), []byte("log.example.org"), 1), nil, 404},
		"no pending checkpoint": {p.body(p.log, 400, 900, 9), nil, 409},
		"a gap":                 {p.body(p.log, 512, 1000, 9), nil, 409},
		"less than the copy":    {p.body(p.log, 0, 300, 9), nil, 409},
		"an entry was changed":  {bytes.Replace(good, []byte("entry 450"), []byte("entry 451"), 1), nil, 422},
		"the first proof was":   {func() []byte { b := bytes.Clone(good); b[first-1] ^= 1; return b }(), nil, 422},
		"64 hashes":             {manyHashes(p), nil, 422},
		"another history":       {bytes.Replace(p.body(fork, 400, 1000, 9), []byte(fork.Origin), []byte(origin), 1), nil, 422},
	} {
		w := p.post("/add-entries", c.body, c.header...)
		if w.Code != c.want {
			t.Errorf("%s: got %d %q, want %d", name, w.Code, w.Body, c.want)
		}
		if w.Code == 409 {
			if size, next := p.info(w, 409); size != 1000 || next != 400 {
				t.Errorf("%s: got %d and %d", name, size, next)
			}
		}
		if _, next := p.m.copies[witness.OriginHash(origin)].inbox.newest(); next != 400 {
			t.Fatalf("%s: entries were kept: the next is %d", name, next)
		}
	}
	// What comes before the fault is kept.
	if w := p.post("/add-entries", edit(-1)); w.Code != 422 {
		t.Errorf("the last proof was changed: got %d %s", w.Code, w.Body)
	}
	if w := p.post("/add-entries", good[:len(good)-1]); w.Code != 202 {
		t.Errorf("the last package is torn: got %d %s", w.Code, w.Body)
	} else if _, next := p.info(w, 202); next != 768 {
		t.Errorf("got %d as the next entry", next)
	}
	p.whole(400)

	for name, c := range map[string]struct {
		w    *httptest.ResponseRecorder
		want int
	}{
		"a fork":        {p.checkpoint(fork, 1000, 1000), 422},
		"a roll back":   {p.checkpoint(p.log, 400, 900), 409},
		"another log":   {p.checkpoint(logtest.New("log.example.org", 9), 0, 9), 404},
		"not signed":    {p.post("/add-checkpoint", bytes.Replace(witness.Request{Old: 1000, Checkpoint: p.log.Signed(1000)}.Marshal(), []byte("\n1000\n"), []byte("\n1001\n"), 1)), 403},
		"no request":    {p.post("/add-checkpoint", []byte("x")), 400},
		"a large one":   {p.post("/add-checkpoint", make([]byte, witness.MaxRequest+1)), 400},
		"no such proof": {p.checkpoint(p.log.Fork(999, 1001), 1000, 1001), 422},
	} {
		if c.w.Code != c.want {
			t.Errorf("checkpoint, %s: got %d %s, want %d", name, c.w.Code, c.w.Body, c.want)
		}
	}
	for range maxUploads {
		p.m.uploads <- struct{}{}
	}
	if w := p.post("/add-entries", good); w.Code != 503 {
		t.Errorf("too many uploads: got %d", w.Code)
	}
}

// TestPushForgetsNothing: without its inbox, a mirror still knows which history its copy has.
func TestPushForgetsNothing(t *testing.T) {
	p := newPusher(t, 300)
	p.checkpoint(p.log, 0, 300)
	if w := p.upload(0, 300, 9); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	_ = p.m.Close()
	if err := os.RemoveAll(filepath.Join(p.dir, inboxDir)); err != nil {
		t.Fatal(err)
	}
	p.m = nil
	p.restart()
	if w := p.checkpoint(p.log.Fork(100, 400), 0, 400); w.Code != 409 || w.Body.String() != "300\n" {
		t.Errorf("got %d %s, want the size of the copy", w.Code, w.Body)
	}
	p.log.Grow(500)
	if w := p.checkpoint(p.log, 300, 500); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := p.upload(300, 500, 9); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	p.whole(500)
}

// TestPendingCheckpoints: an upload for an earlier pending checkpoint goes on, for the last eight.
func TestPendingCheckpoints(t *testing.T) {
	p := newPusher(t, 0)
	old := int64(0)
	for size := int64(100); size <= 1000; size += 100 {
		p.log.Grow(int(size))
		if w := p.checkpoint(p.log, old, size); w.Code != 200 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		old = size
	}
	p.restart()
	if size, next := p.info(p.upload(0, 200, 9), 409); size != 1000 || next != 0 {
		t.Errorf("got %d and %d", size, next)
	}
	for _, size := range []int64{300, 700, 1000} {
		if w := p.upload(0, size, 9); w.Code != 200 {
			t.Errorf("%d: got %d %s", size, w.Code, w.Body)
		}
		p.whole(size)
	}
	if w := p.upload(0, 700, 9); w.Code != 409 {
		t.Errorf("an upload to before the copy: got %d %s", w.Code, w.Body)
	}
}

// manyHashes is an upload with more hashes in a proof than a proof can have.
func manyHashes(p *pusher) []byte {
	_, leaves := entriesOf(p.t, p.log, 1000)
	b := p.body(p.log, 400, 1000, 1)
	b[len(b)-32*len(subtreeProof(256, 512, leaves))-1] = 64
	return append(b, make([]byte, 64*32)...)
}
