package mirror

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// The calls by which a log pushes its entries (c2sp.org/tlog-mirror, "Updating a Mirror").
const (
	pathAddEntries = "/add-entries"
	infoType       = "text/x.tlog.mirror-info"

	maxPackages  = 32               // of one request; what follows is for the next one
	maxUploads   = 4                // requests at once; each may need 80 MiB of memory
	maxProof     = 63               // hashes
	packageStall = 15 * time.Second // for which a client may take to send a package
	commitLimit  = 10 * time.Minute // for which a client waits until the copy is made
)

// upload is the head of a body of add-entries.
type upload struct {
	origin     string
	start, end int64
}

// readUpload reads the head. The ticket is not used: the last pending checkpoints are kept.
func readUpload(r io.Reader) (u upload, err error) {
	var size uint16
	text := func() ([]byte, error) {
		if err := binary.Read(r, binary.BigEndian, &size); err != nil {
			return nil, err
		}
		data := make([]byte, size)
		_, err := io.ReadFull(r, data)
		return data, err
	}
	origin, err := text()
	if err != nil {
		return u, err
	}
	var bounds [2]uint64
	if err := binary.Read(r, binary.BigEndian, &bounds); err != nil {
		return u, err
	}
	if _, err := text(); err != nil {
		return u, err
	}
	if bounds[0] > bounds[1] || bounds[1] > 1<<62 {
		return u, fmt.Errorf("expected the start before the end, found %d and %d", bounds[0], bounds[1])
	}
	return upload{string(origin), int64(bounds[0]), int64(bounds[1])}, nil
}

// entryPackage is a package of entries: those of one tile, as the tile has them.
type entryPackage struct {
	data  []byte
	proof []tlog.Hash
}

// readPackage reads a package of n entries, at most 256.
func readPackage(r io.Reader, n int64) (p entryPackage, err error) {
	var data bytes.Buffer
	for range n {
		var size [2]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return p, err
		}
		data.Write(size[:])
		if _, err := io.CopyN(&data, r, int64(binary.BigEndian.Uint16(size[:]))); err != nil {
			return p, err
		}
	}
	var hashes [1]byte
	if _, err := io.ReadFull(r, hashes[:]); err != nil {
		return p, err
	}
	if hashes[0] > maxProof {
		return p, witness.Refuse(http.StatusUnprocessableEntity, "proof: expected at most %d hashes, found %d", maxProof, hashes[0])
	}
	for range hashes[0] {
		var h tlog.Hash
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return p, err
		}
		p.proof = append(p.proof, h)
	}
	p.data = data.Bytes()
	return p, nil
}

// verify returns the tile of entries with the package at its end, which follows what is there before it,
// and its leaf hashes. It fails unless the tree of cp has them.
//
// The entries of one tile are a node of each tree that has them, also of one that ends among them. These
// nodes are the leaves of a tree with the same root, which has one for each tile: so the proof of the
// subtree is the proof of inclusion of such a leaf.
func (p entryPackage) verify(cp tlog.Checkpoint, tile int64, before []byte) (data []byte, leaves []tlog.Hash, err error) {
	if data = p.data; len(before) > 0 {
		data = append(before, p.data...)
	}
	if leaves, err = leavesOf(data); err != nil {
		return nil, nil, err
	}
	cp.Size = (cp.Size + tlog.TileWidth - 1) / tlog.TileWidth
	return data, leaves, tlog.VerifyInclusion(cp, tile, rootOf(leaves), p.proof)
}

// serveAddCheckpoint serves POST /add-checkpoint: a pending checkpoint. It answers without cosignatures:
// nobody has the entries yet.
func (m *Mirror) serveAddCheckpoint(w http.ResponseWriter, r *http.Request) {
	body, err := strict.Read(r.Body, witness.MaxRequest)
	if err != nil {
		m.answer(w, witness.Refuse(http.StatusBadRequest, "request: %v", err))
		return
	}
	request, err := witness.ParseRequest(body)
	if err != nil {
		m.answer(w, witness.Refuse(http.StatusBadRequest, "%v", err))
		return
	}
	origin, _, _ := bytes.Cut(request.Checkpoint, []byte("\n"))
	c, err := m.pushed(string(origin))
	if err == nil {
		err = c.inbox.extend(request)
	}
	m.answer(w, err)
}

// pushed returns the copy of a log that pushes its entries.
func (m *Mirror) pushed(origin string) (*mirrored, error) {
	c := m.copies[witness.OriginHash(origin)]
	if c == nil || c.inbox == nil {
		return nil, witness.Refuse(http.StatusNotFound, "no log %q pushes its entries to this mirror", origin)
	}
	return c, nil
}

// answer answers an error, or success without a body.
func (m *Mirror) answer(w http.ResponseWriter, err error) {
	refused, ok := errors.AsType[*witness.Refusal](err)
	switch {
	case err == nil:
		refused = &witness.Refusal{Status: http.StatusOK}
	case !ok:
		m.log.Error("what a log pushed could not be kept", "error", err)
		w.Header().Set("Retry-After", "10")
		refused = witness.Refuse(http.StatusServiceUnavailable, "the mirror cannot keep this now; its log has the reason")
	}
	if refused.Kind == "" {
		refused.Kind = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", refused.Kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Accept-Encoding", "gzip")
	w.WriteHeader(refused.Status)
	_, _ = io.WriteString(w, refused.Text)
}

// serveAddEntries serves POST /add-entries.
func (m *Mirror) serveAddEntries(w http.ResponseWriter, r *http.Request) {
	select {
	case m.uploads <- struct{}{}:
		defer func() { <-m.uploads }()
	default:
		w.Header().Set("Retry-After", "1")
		m.answer(w, witness.Refuse(http.StatusServiceUnavailable, "the mirror is busy; try again"))
		return
	}
	if t := r.Header.Get("Content-Type"); t != "application/octet-stream" {
		m.answer(w, witness.Refuse(http.StatusUnsupportedMediaType, "expected application/octet-stream, found %q", t))
		return
	}
	wait := patience{http.NewResponseController(w), m.stall}
	wait.forPackage()
	body := io.Reader(r.Body)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip":
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			m.answer(w, witness.Refuse(http.StatusBadRequest, "gzip: %v", err))
			return
		}
		body = unpacked
	default:
		m.answer(w, witness.Refuse(http.StatusUnsupportedMediaType, "expected Content-Encoding gzip or none, found %q", encoding))
		return
	}
	in := bufio.NewReader(body)
	u, err := readUpload(in)
	if err != nil {
		m.answer(w, witness.Refuse(http.StatusBadRequest, "the head of the upload: %v", err))
		return
	}
	c, err := m.pushed(u.origin)
	if err == nil {
		var lines []byte
		if lines, err = m.receive(r.Context(), c, u, in, wait); err == nil {
			err = &witness.Refusal{Status: http.StatusOK, Text: string(lines)} // as that of a witness
		}
	}
	m.answer(w, err)
}

// info is the answer that says where to go on.
func (c *mirrored) info(status int, size int64) *witness.Refusal {
	_, next := c.inbox.newest()
	return &witness.Refusal{Status: status, Kind: infoType, Text: fmt.Sprintf("%d\n%d\n\n", size, next)}
}

// receive keeps the packages of an upload, and returns the cosignatures when it has all of them.
func (m *Mirror) receive(ctx context.Context, c *mirrored, u upload, in io.Reader, wait patience) ([]byte, error) {
	newest, next := c.inbox.newest()
	cp, known := c.inbox.at(u.end)
	if !known || u.end < c.follow.Progress().Next {
		return nil, c.info(http.StatusConflict, newest.Size)
	}
	if u.start > next || u.start < next-maxPackages*tlog.TileWidth {
		return nil, c.info(http.StatusConflict, u.end)
	}
	at := u.start
	for kept := 0; at < u.end; kept++ {
		tile := at / tlog.TileWidth
		end := min(u.end, (tile+1)*tlog.TileWidth)
		wait.forPackage()
		err := errEnough
		var p entryPackage
		if kept < maxPackages {
			p, err = readPackage(in, end-at)
		}
		if refused, ok := errors.AsType[*witness.Refusal](err); ok {
			return nil, refused
		} else if err != nil && kept == 0 {
			return nil, witness.Refuse(http.StatusBadRequest, "the first package of entries: %v", err)
		} else if err != nil {
			return nil, c.info(http.StatusAccepted, u.end)
		}
		before, err := c.inbox.before(ctx, tile, int(at-tile*tlog.TileWidth))
		if err != nil {
			return nil, err
		}
		data, leaves, err := p.verify(cp.Checkpoint, tile, before)
		if err != nil {
			return nil, witness.Refuse(http.StatusUnprocessableEntity, "entries %d to %d: %v", at, end-1, err)
		}
		if err := c.inbox.keep(ctx, tile, data, leaves); err != nil {
			return nil, err
		}
		at = end
	}
	wait.forCommit()
	return m.commit(ctx, c, cp)
}

// patience sets the deadlines of a connection.
type patience struct {
	*http.ResponseController
	stall time.Duration // packageStall; less in tests
}

func (p patience) forPackage() {
	_ = p.SetReadDeadline(time.Now().Add(p.stall))
	_ = p.SetWriteDeadline(time.Now().Add(4 * p.stall))
}

// forCommit ends the deadline for reading: net/http goes on reading after the body, to see whether the
// client is there, and a deadline that passes then ends the context of the request.
func (p patience) forCommit() {
	_ = p.SetReadDeadline(time.Time{})
	_ = p.SetWriteDeadline(time.Now().Add(commitLimit))
}

var errEnough = errors.New("the request has as many packages as one may have")

// commit makes the copy up to cp, whose entries the inbox has, and returns the cosignatures.
func (m *Mirror) commit(ctx context.Context, c *mirrored, cp pending) ([]byte, error) {
	c.following.Lock()
	defer c.following.Unlock()
	if has := c.follow.Progress().Checkpoint; cp.Size < has.Size {
		return nil, c.info(http.StatusConflict, has.Size)
	}
	c.inbox.aim(cp)
	if err := m.follow(ctx, c); err != nil {
		return nil, err
	}
	if err := c.inbox.done(cp.Size); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines, nil
}
