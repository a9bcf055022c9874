package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stall is how long a body may bring no byte before its request is cut off.
const stall = time.Minute

// An upload is a blob on its way in: a file in tmp/ that has no name in any
// repository until its digest was checked. It dies with the process; a client
// then gets 404 and starts anew.
type upload struct {
	id   string
	repo string

	busy sync.Mutex // held by the one request that writes
	file *os.File
	size atomic.Int64 // bytes in file; read without busy
	gone bool

	// sum is the SHA-256 of the first summed bytes. Where summed is not size,
	// or another algorithm is asked for, the file is read again.
	sum    hash.Hash
	summed int64

	idle *time.Timer
}

func (r *Registry) newUpload(repo string) (*upload, error) {
	u := &upload{id: rand.Text(), repo: repo, sum: sha256.New()}

	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.uploads) >= r.cfg.MaxUploads {
		return nil, failed(http.StatusTooManyRequests, codeTooManyRequests, "%d uploads are in flight, which is the most; try again", r.cfg.MaxUploads)
	}
	f, err := os.OpenFile(r.store.path("tmp", "upload-"+u.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	u.file = f
	u.idle = time.AfterFunc(r.cfg.UploadIdle, func() { r.expire(u) })
	r.uploads[u.id] = u
	r.open.Set(float64(len(r.uploads)))
	return u, nil
}

// hold finds an upload of a repository and makes it the caller's alone.
func (r *Registry) hold(repo, id string) (*upload, func(), error) {
	u, err := r.find(repo, id)
	if err != nil {
		return nil, nil, err
	}
	if !u.busy.TryLock() {
		return nil, nil, failed(http.StatusConflict, codeBlobUploadInvalid, "another request is writing upload %s", id)
	}
	if u.gone {
		u.busy.Unlock()
		return nil, nil, errUploadUnknown(repo, id)
	}
	u.idle.Stop()
	return u, func() {
		if !u.gone {
			u.idle.Reset(r.cfg.UploadIdle)
		}
		u.busy.Unlock()
	}, nil
}

func (r *Registry) find(repo, id string) (*upload, error) {
	r.mu.Lock()
	u := r.uploads[id]
	r.mu.Unlock()
	if u == nil || u.repo != repo {
		return nil, errUploadUnknown(repo, id)
	}
	return u, nil
}

func errUploadUnknown(repo, id string) error {
	return failed(http.StatusNotFound, codeBlobUploadUnknown, "repository %q has no upload %q", repo, id)
}

func (r *Registry) expire(u *upload) {
	if !u.busy.TryLock() {
		return // in use after all; its release starts the timer again
	}
	defer u.busy.Unlock()
	if !u.gone {
		r.cfg.Log.Info("registry: upload dropped after it was idle", "repository", u.repo, "bytes", u.size.Load(), "idle", r.cfg.UploadIdle)
		r.discard(u)
	}
}

func (r *Registry) drop(id string) {
	r.mu.Lock()
	u := r.uploads[id]
	r.mu.Unlock()
	if u != nil {
		u.busy.Lock()
		defer u.busy.Unlock()
		r.discard(u)
	}
}

// discard frees an upload and its disk. The caller holds u.busy.
func (r *Registry) discard(u *upload) {
	if u.gone {
		return
	}
	u.gone = true
	u.idle.Stop()
	u.file.Close()
	os.Remove(u.file.Name())
	r.mu.Lock()
	delete(r.uploads, u.id)
	r.open.Set(float64(len(r.uploads)))
	r.mu.Unlock()
}

// startUpload is POST /v2/NAME/blobs/uploads/, with ?mount= for a blob that is
// here already, with ?digest= for a blob that is the body, or neither.
func (r *Registry) startUpload(w http.ResponseWriter, req *request) error {
	q := req.URL.Query()
	if q.Has("mount") {
		d, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		from := q.Get("from")
		if from != "" && !validName(from) {
			return errNameInvalid("got repository name %q to mount from, which is not of the spec's grammar", from)
		}
		if ok, err := r.store.mountBlob(req.name, from, d); err != nil {
			return err
		} else if ok {
			r.cfg.Log.Info("registry: blob mounted", "repository", req.name, "digest", d, "from", from)
			return blobCreated(w, req.name, d)
		}
	}
	var want digest
	whole := q.Has("digest") && !q.Has("mount")
	if whole {
		var err error
		if want, err = parseDigest(q.Get("digest")); err != nil {
			return err
		}
	}
	u, err := r.newUpload(req.name)
	if err != nil {
		return err
	}
	if whole {
		u.busy.Lock()
		defer u.busy.Unlock()
		defer r.discard(u)
		if err := r.receive(w, req, u, -1); err != nil {
			return err
		}
		return r.finish(w, u, want)
	}
	u.answer(w, http.StatusAccepted)
	return nil
}

// continueUpload is what is done to /v2/NAME/blobs/uploads/ID: PATCH adds a
// chunk, PUT ends it, GET asks how far it is, DELETE gives up.
func (r *Registry) continueUpload(w http.ResponseWriter, req *request) error {
	if reads(req.Method) {
		u, err := r.find(req.name, req.ref)
		if err != nil {
			return err
		}
		u.answer(w, http.StatusNoContent)
		return nil
	}
	if req.Method != http.MethodPatch && req.Method != http.MethodPut && req.Method != http.MethodDelete {
		return errMethod(req)
	}
	u, release, err := r.hold(req.name, req.ref)
	if err != nil {
		return err
	}
	defer release()
	if req.Method == http.MethodDelete {
		r.discard(u)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	var want digest
	if req.Method == http.MethodPut {
		if want, err = parseDigest(req.URL.Query().Get("digest")); err != nil {
			return err
		}
	}
	length, err := u.chunk(req)
	if err != nil {
		u.headers(w)
		return err
	}
	if err := r.receive(w, req, u, length); err != nil {
		return err
	}
	if req.Method == http.MethodPut {
		defer r.discard(u)
		return r.finish(w, u, want)
	}
	u.answer(w, http.StatusAccepted)
	return nil
}

func (u *upload) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Location", "/v2/"+u.repo+"/blobs/uploads/"+u.id)
	h.Set("Docker-Upload-UUID", u.id)
	// The end is inclusive, so there is no way to write "nothing"; "0-0" is
	// what registries say.
	h.Set("Range", fmt.Sprintf("0-%d", max(u.size.Load()-1, 0)))
}

func (u *upload) answer(w http.ResponseWriter, status int) {
	u.headers(w)
	w.WriteHeader(status)
}

// A chunk's Content-Range is START-END, in bytes, both inclusive, without
// unit or total (distribution spec 1.1, "Pushing a blob in chunks").
var contentRange = regexp.MustCompile(`\A([0-9]{1,18})-([0-9]{1,18})\z`)

// chunk checks that the body continues the upload, and returns its length, -1
// where it is not known.
func (u *upload) chunk(req *request) (int64, error) {
	s := req.Header.Get("Content-Range")
	if s == "" {
		return req.ContentLength, nil
	}
	m := contentRange.FindStringSubmatch(s)
	if m == nil {
		return 0, failed(http.StatusBadRequest, codeBlobUploadInvalid, "got Content-Range %q, want START-END", s)
	}
	start, _ := strconv.ParseInt(m[1], 10, 64)
	end, _ := strconv.ParseInt(m[2], 10, 64)
	length := end - start + 1
	if size := u.size.Load(); start != size || length < 1 {
		return 0, failed(http.StatusRequestedRangeNotSatisfiable, codeBlobUploadInvalid, "got Content-Range %q, want a start of %d", s, size)
	}
	if req.ContentLength >= 0 && req.ContentLength != length {
		return 0, failed(http.StatusBadRequest, codeSizeInvalid, "got %d bytes for Content-Range %q, want %d", req.ContentLength, s, length)
	}
	return length, nil
}

// receive appends the body, of length bytes where that is not -1. After an
// error of ours the upload is gone; after the client's it holds what arrived.
func (r *Registry) receive(w http.ResponseWriter, req *request, u *upload, length int64) error {
	room := r.cfg.MaxBlob - u.size.Load()
	tooBig := func() error {
		r.discard(u)
		return failed(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the blob has more than %d bytes, the most that are taken", r.cfg.MaxBlob)
	}
	if max(length, req.ContentLength) > room {
		return tooBig()
	}
	limit := room
	if length >= 0 {
		limit = length
	}
	body := &patientReader{body: req.Body, deadline: http.NewResponseController(w).SetReadDeadline}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{u}, io.LimitReader(body, limit+1), *buf)
	body.done()
	switch {
	case body.err == nil && err != nil:
		r.discard(u) // the disk: nothing of it is kept, so that a full one gets room
		return err
	case body.err != nil:
		return failed(http.StatusBadRequest, codeBlobUploadInvalid, "the body ended after %d bytes: %v", n, body.err)
	case length < 0 && n > limit:
		return tooBig()
	case length >= 0 && n != length:
		r.discard(u)
		return failed(http.StatusBadRequest, codeSizeInvalid, "got %d bytes, want %d", n, length)
	}
	return nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Write appends to the file and keeps size and sum in step with it.
func (u *upload) Write(p []byte) (int, error) {
	at := u.size.Load()
	n, err := u.file.WriteAt(p, at)
	if u.summed == at {
		u.sum.Write(p[:n])
		u.summed += int64(n)
	}
	u.size.Add(int64(n))
	return n, err
}

// patientReader cuts off a client that sends nothing for a while, but not one
// that is slow. err is what the client's side failed with, if it did.
type patientReader struct {
	body     io.Reader
	deadline func(time.Time) error
	err      error
}

func (p *patientReader) Read(b []byte) (int, error) {
	p.deadline(time.Now().Add(stall)) // without support for it, the server's own timeouts stand
	n, err := p.body.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// done lifts the deadline: the request may take longer than its body.
func (p *patientReader) done() { p.deadline(time.Time{}) }

// finish checks the digest and gives the blob its name. The bytes are synced
// before the name, and the name before the answer.
func (r *Registry) finish(w http.ResponseWriter, u *upload, want digest) error {
	got, err := u.digest(want)
	if err != nil {
		return err
	}
	if got != want {
		return failed(http.StatusBadRequest, codeDigestInvalid, "got %d bytes of digest %s, want %s", u.size.Load(), got, want)
	}
	if err := u.file.Sync(); err != nil {
		return err
	}
	if err := r.store.addBlob(u.repo, want, u.file.Name()); err != nil {
		return err
	}
	r.cfg.Log.Info("registry: blob pushed", "repository", u.repo, "digest", want, "bytes", u.size.Load())
	return blobCreated(w, u.repo, want)
}

func (u *upload) digest(want digest) (digest, error) {
	h := u.sum
	if want.alg != "sha256" || u.summed != u.size.Load() {
		h = want.newHash()
		if n, err := io.Copy(h, io.NewSectionReader(u.file, 0, u.size.Load())); err != nil {
			return digest{}, err
		} else if n != u.size.Load() {
			return digest{}, fmt.Errorf("upload file has %d bytes, %d were written", n, u.size.Load())
		}
	}
	return digest{want.alg, hex.EncodeToString(h.Sum(nil))}, nil
}

func blobCreated(w http.ResponseWriter, name string, d digest) error {
	w.Header().Set("Location", strings.Join([]string{"/v2", name, "blobs", d.String()}, "/"))
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
	return nil
}
