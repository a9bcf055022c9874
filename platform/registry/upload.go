package registry

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/distribution"
)

// stall is how long a client may send or read no byte before its request is cut off.
const stall = time.Minute

// An upload is a blob that a client is pushing: a file in tmp/, which becomes a blob of a
// repository only after its digest is checked. Uploads end with the process; the client then
// gets 404 and starts again.
type upload struct {
	id      string
	repo    string
	account *account

	busy sync.Mutex // held by the request that writes
	file *os.File
	size atomic.Int64 // bytes in file; may be read without busy
	used atomic.Int64 // end of the last request, Unix nanoseconds; may be read without busy
	most int64        // limit of account.bytes
	room func() bool  // drops an idle upload of the account, if there is one
	gone bool         // discarded

	// sum is the SHA-256 of the first summed bytes. If summed is not size, or another
	// algorithm is needed, the file is read again.
	sum    hash.Hash
	summed int64

	idle *time.Timer
}

// emptyIdle and evictIdle are how long an upload may get no request: one without bytes, and one
// whose place another upload of the account needs.
const (
	emptyIdle = time.Minute
	evictIdle = 10 * time.Second
)

// newUpload starts an upload. If its account has too many, it takes the place of an idle one.
func (r *Registry) newUpload(repo string, a *account) (*upload, error) {
	for {
		u, err := r.tryUpload(repo, a)
		if u != nil || err != nil {
			return u, err
		}
		if !r.evict(a) {
			return nil, distribution.Failed(http.StatusTooManyRequests, distribution.CodeTooManyRequests, "%d uploads with this token are in progress, the limit of this registry; try again later", r.cfg.MaxUploads)
		}
	}
}

// evict discards the upload of an account that has been idle for the longest time: of those that
// no request writes to. It returns false if none has been idle for evictIdle.
func (r *Registry) evict(a *account) bool {
	r.mu.Lock()
	var own []*upload
	for _, u := range r.uploads {
		if u.account == a && time.Since(time.Unix(0, u.used.Load())) >= r.mayEvict {
			own = append(own, u)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(own, func(a, b *upload) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	for _, u := range own {
		if !u.busy.TryLock() {
			continue
		}
		idle := time.Since(time.Unix(0, u.used.Load())) >= r.mayEvict // or a request came meanwhile
		if idle {
			r.cfg.Log.Info("registry: idle upload dropped to make room", "repository", u.repo, "bytes", u.size.Load())
			r.discard(u)
		}
		u.busy.Unlock()
		if idle {
			return true
		}
	}
	return false
}

// tryUpload starts an upload; it returns nil if the account has too many.
func (r *Registry) tryUpload(repo string, a *account) (*upload, error) {
	u := &upload{id: rand.Text(), repo: repo, account: a, most: r.cfg.MaxUnfinished, room: func() bool { return r.evict(a) }, sum: sha256.New()}
	u.used.Store(time.Now().UnixNano())

	r.mu.Lock()
	defer r.mu.Unlock()
	if a.uploads >= r.cfg.MaxUploads {
		return nil, nil
	}
	f, err := os.OpenFile(r.store.path("tmp", "upload-"+u.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	u.file = f
	u.idle = time.AfterFunc(r.mayIdle(u), func() { r.expire(u) })
	r.uploads[u.id] = u
	a.uploads++
	r.open.Set(float64(len(r.uploads)))
	return u, nil
}

// mayIdle returns how long an upload is kept without requests.
func (r *Registry) mayIdle(u *upload) time.Duration {
	if u.size.Load() == 0 {
		return min(emptyIdle, r.cfg.UploadIdle)
	}
	return r.cfg.UploadIdle
}

// lockUpload returns an upload of a repository with busy locked, and a function that unlocks
// it.
func (r *Registry) lockUpload(repo, id string) (*upload, func(), error) {
	u, err := r.find(repo, id)
	if err != nil {
		return nil, nil, err
	}
	if !u.busy.TryLock() {
		return nil, nil, distribution.Failed(http.StatusConflict, distribution.CodeBlobUploadInvalid, "another request is writing upload %s", id)
	}
	if u.gone {
		u.busy.Unlock()
		return nil, nil, errUploadUnknown(repo, id)
	}
	u.idle.Stop()
	return u, func() {
		if !u.gone {
			u.used.Store(time.Now().UnixNano())
			u.idle.Reset(r.mayIdle(u))
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
	return distribution.Failed(http.StatusNotFound, distribution.CodeBlobUploadUnknown, "repository %q has no upload %q", repo, id)
}

func (r *Registry) expire(u *upload) {
	if !u.busy.TryLock() {
		return // a request uses it; when it ends, it restarts the timer
	}
	defer u.busy.Unlock()
	if !u.gone {
		r.cfg.Log.Info("registry: idle upload dropped", "repository", u.repo, "bytes", u.size.Load(), "idle", r.mayIdle(u))
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

// discard removes an upload and its file. The caller must hold u.busy.
func (r *Registry) discard(u *upload) {
	if u.gone {
		return
	}
	u.gone = true
	u.idle.Stop()
	u.file.Close()
	os.Remove(u.file.Name())
	u.account.bytes.Add(-u.size.Load())
	r.mu.Lock()
	delete(r.uploads, u.id)
	u.account.uploads--
	r.open.Set(float64(len(r.uploads)))
	r.mu.Unlock()
}

// mount takes a blob over from another repository, or if from is "" from any. If it returns
// false, the client must push the blob.
func (r *Registry) mount(req *request, from string, d digest) (bool, error) {
	if !r.cfg.AnonymousPull && !req.grant.allows(from, actionPull) {
		return false, nil
	}
	ok, err := r.store.mountBlob(req.Context(), req.name, from, d)
	if damaged(err) {
		r.alarm(err, req.name)
		return false, nil
	}
	return ok, err
}

// startUpload serves POST /v2/NAME/blobs/uploads/. With ?mount= it links a blob that the
// registry has already, with ?digest= the body is the whole blob, and with neither it starts
// an upload.
func (r *Registry) startUpload(w http.ResponseWriter, req *request) error {
	q := req.URL.Query()
	if q.Has("mount") {
		d, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		from := q.Get("from")
		if from != "" && !distribution.ValidName(from) {
			return errNameInvalid("from: repository name %q does not match the grammar of the distribution spec", from)
		}
		if ok, err := r.mount(req, from, d); err != nil {
			return err
		} else if ok {
			r.cfg.Log.InfoContext(req.Context(), "registry: blob mounted", "repository", req.name, "digest", d, "from", from)
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
	u, err := r.newUpload(req.name, req.account)
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
		return r.finish(w, req, u, want)
	}
	u.answer(w, http.StatusAccepted)
	return nil
}

// continueUpload serves /v2/NAME/blobs/uploads/ID: PATCH adds a chunk, PUT finishes the
// upload, GET returns its size, DELETE cancels it.
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
	u, release, err := r.lockUpload(req.name, req.ref)
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
		return r.finish(w, req, u, want)
	}
	u.answer(w, http.StatusAccepted)
	return nil
}

func (u *upload) headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Location", "/v2/"+u.repo+"/blobs/uploads/"+u.id)
	h.Set("Docker-Upload-UUID", u.id)
	// The end is inclusive, so the format cannot express an empty range. Registries answer
	// "0-0".
	h.Set("Range", fmt.Sprintf("0-%d", max(u.size.Load()-1, 0)))
}

func (u *upload) answer(w http.ResponseWriter, status int) {
	u.headers(w)
	w.WriteHeader(status)
}

// A chunk's Content-Range is START-END, in bytes, both inclusive, without
// unit or total (distribution spec 1.1, "Pushing a blob in chunks").
var contentRange = lazyregexp.New(`\A([0-9]{1,18})-([0-9]{1,18})\z`)

// chunk checks that the body continues the upload and returns its length; -1 if the length
// is unknown.
func (u *upload) chunk(req *request) (int64, error) {
	s := req.Header.Get("Content-Range")
	if s == "" {
		return req.ContentLength, nil
	}
	m := contentRange.FindStringSubmatch(s)
	if m == nil {
		return 0, distribution.Failed(http.StatusBadRequest, distribution.CodeBlobUploadInvalid, "got Content-Range %q, want START-END", s)
	}
	start, _ := strconv.ParseInt(m[1], 10, 64)
	end, _ := strconv.ParseInt(m[2], 10, 64)
	length := end - start + 1
	if size := u.size.Load(); start != size || length < 1 {
		return 0, distribution.Failed(http.StatusRequestedRangeNotSatisfiable, distribution.CodeBlobUploadInvalid, "got Content-Range %q, want a start of %d", s, size)
	}
	if req.ContentLength >= 0 && req.ContentLength != length {
		return 0, distribution.Failed(http.StatusBadRequest, distribution.CodeSizeInvalid, "got %d bytes for Content-Range %q, want %d", req.ContentLength, s, length)
	}
	return length, nil
}

// receive appends the body to the upload. The body must have length bytes, unless length is
// -1. After an internal error the upload is discarded. If the body ends early, the upload
// keeps the bytes that arrived.
func (r *Registry) receive(w http.ResponseWriter, req *request, u *upload, length int64) error {
	room := r.cfg.MaxBlob - u.size.Load()
	tooBig := func() error {
		r.discard(u)
		return distribution.Failed(http.StatusRequestEntityTooLarge, distribution.CodeSizeInvalid, "the blob has more than %d bytes, the limit of this registry", r.cfg.MaxBlob)
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
		r.discard(u) // the disk failed and may be full: free the upload's space
		return err
	case body.err != nil:
		return distribution.Failed(http.StatusBadRequest, distribution.CodeBlobUploadInvalid, "the body ended after %d bytes: %v", n, body.err)
	case length < 0 && n > limit:
		return tooBig()
	case length >= 0 && n != length:
		r.discard(u)
		return distribution.Failed(http.StatusBadRequest, distribution.CodeSizeInvalid, "got %d bytes, want %d", n, length)
	}
	return nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Write appends p to the file and updates size and sum.
func (u *upload) Write(p []byte) (int, error) {
	for u.account.bytes.Add(int64(len(p))) > u.most {
		u.account.bytes.Add(-int64(len(p)))
		if u.room() {
			continue
		}
		return 0, distribution.Failed(http.StatusTooManyRequests, distribution.CodeTooManyRequests, "the unfinished uploads with this token have more than %d bytes, the limit of this registry; finish or cancel one", u.most)
	}
	at := u.size.Load()
	n, err := u.file.WriteAt(p, at)
	u.account.bytes.Add(int64(n - len(p)))
	if u.summed == at {
		u.sum.Write(p[:n])
		u.summed += int64(n)
	}
	u.size.Add(int64(n))
	return n, err
}

// patientReader cuts off a client that sends nothing for the time stall, but not a slow one.
// err is the error of reading from the client, if any.
type patientReader struct {
	body     io.Reader
	deadline func(time.Time) error
	err      error
}

func (p *patientReader) Read(b []byte) (int, error) {
	p.deadline(time.Now().Add(stall)) // if not supported, the server's own timeouts apply
	n, err := p.body.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// done removes the deadline: the rest of the request may take longer.
func (p *patientReader) done() { p.deadline(time.Time{}) }

// finish checks the digest, adds the blob to the repository, and answers. It syncs the bytes
// before it names the file, and the name before it answers.
func (r *Registry) finish(w http.ResponseWriter, req *request, u *upload, want digest) error {
	got, err := u.digest(want)
	if err != nil {
		return err
	}
	if got != want {
		return distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "got a blob of %d bytes with digest %s, want %s", u.size.Load(), got, want)
	}
	if err := u.file.Sync(); err != nil {
		return err
	}
	if err := r.store.checked.written(u.file, want); err != nil {
		return err
	}
	repaired, err := r.store.addBlob(u.repo, want, u.file.Name())
	for _, path := range repaired {
		r.cfg.Log.Warn("registry: a damaged blob was repaired by a push", "file", path)
	}
	if err != nil {
		return err
	}
	r.cfg.Log.InfoContext(req.Context(), "registry: blob pushed", "repository", u.repo, "digest", want, "bytes", u.size.Load())
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
