package log

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/tlog"
)

const (
	readTimeout   = 10 * time.Second // for the client to send the request's body
	answerTimeout = 20 * time.Second // until a checkpoint covers the entry
	retryAfter    = 1                // seconds after which clients of a busy log should retry
)

// Register adds the log's paths to mux, all under /api/v2.
func (s *Server) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v2/log/entries", s.handleEntry)
	read := http.StripPrefix("/api/v2/", tlog.Handler{Source: published{s}, Fail: s.unread})
	mux.Handle("GET /api/v2/checkpoint", read)
	mux.Handle("GET /api/v2/tile/", read)
}

// handleEntry logs an entry and answers 201 with a TransparencyLogEntry (Sigstore
// protobuf-specs, JSON), also if the log already had the entry.
func (s *Server) handleEntry(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	result := "failed"
	defer func() { s.metrics.entry(result, time.Since(began)) }()
	slots, most := s.slots, s.maxPending
	if s.reserved(r) {
		slots, most = s.kept, 2*s.maxPending
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		result = "busy"
		refuseBusy(w, errBusy)
		return
	}
	// The request holds a slot, so a client that sends its body slowly must be cut off.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(readTimeout))
	request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		result = "refused"
		status := http.StatusBadRequest
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			status = http.StatusRequestEntityTooLarge
			err = fmt.Errorf("got a request of more than %d bytes", maxRequest)
		}
		refuse(w, status, err)
		return
	}
	control.SetReadDeadline(time.Time{})
	entry, kind, err := canonicalEntry(request, allowed)
	if err != nil {
		if p, ok := errors.AsType[*panicked](err); ok {
			s.log.Error("a request made a parser panic", "panic", p.value, "stack", string(p.stack))
		}
		result = "refused"
		refuse(w, http.StatusBadRequest, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	p, joined, err := s.place(ctx, entry, most)
	switch {
	case errors.Is(err, errBusy), errors.Is(err, context.DeadlineExceeded):
		result = "busy"
		refuseBusy(w, errBusy)
		return
	case err != nil:
		s.fail(w, err)
		return
	}
	shown, err := s.witnessed(ctx, p.view)
	if errors.Is(err, errNoQuorum) {
		result = "unwitnessed"
		refuseBusy(w, err)
		return
	}
	answer, err := s.answer(ctx, p.index, shown, entry)
	if err != nil {
		s.fail(w, err)
		return
	}
	answer.KindVersion = kind
	body, err := json.Marshal(answer)
	if err != nil {
		s.fail(w, err)
		return
	}
	if result = "new"; joined || p.known {
		result = "duplicate"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusCreated)
	w.Write(body)
}

// logEntry is a Sigstore TransparencyLogEntry in the JSON form of protobuf: numbers of 64 bits
// are text, and bytes are base64. protojson writes the same, but takes longer.
type logEntry struct {
	LogIndex          int64              `json:"logIndex,string"`
	LogID             logID              `json:"logId"`
	KindVersion       *rekor.KindVersion `json:"kindVersion"`
	InclusionProof    inclusionProof     `json:"inclusionProof"`
	CanonicalizedBody []byte             `json:"canonicalizedBody"`
}

type logID struct {
	KeyID []byte `json:"keyId"`
}

type inclusionProof struct {
	LogIndex   int64      `json:"logIndex,string"`
	RootHash   []byte     `json:"rootHash"`
	TreeSize   int64      `json:"treeSize,string"`
	Hashes     [][]byte   `json:"hashes"`
	Checkpoint checkpoint `json:"checkpoint"`
}

type checkpoint struct {
	Envelope string `json:"envelope"`
}

// answer returns the entry at index with an inclusion proof under the checkpoint. It verifies the
// proof as a client does, so that a wrong index never leads to a wrong answer.
func (s *Server) answer(ctx context.Context, index int64, v witnesses.Cosigned, entry []byte) (*logEntry, error) {
	proof, err := prove(ctx, v, index)
	if err != nil {
		return nil, err
	}
	if err := tlog.VerifyInclusion(v.Checkpoint, index, tlog.LeafHash(entry), proof); err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(proof))
	for i := range proof {
		hashes[i] = proof[i][:]
	}
	return &logEntry{
		LogIndex: index, LogID: logID{s.id[:]}, CanonicalizedBody: entry,
		InclusionProof: inclusionProof{
			LogIndex: index, RootHash: v.Root[:], TreeSize: v.Size, Hashes: hashes, Checkpoint: checkpoint{string(v.Envelope)},
		},
	}, nil
}

// prove makes an inclusion proof; the caller verifies it.
func prove(ctx context.Context, v witnesses.Cosigned, index int64) ([]tlog.Hash, error) {
	if own, ok := v.Source.(source); ok {
		return own.prover.Inclusion(ctx, index)
	}
	return tlog.Inclusion(ctx, v.Source, v.Checkpoint, index)
}

// unread answers a request whose checkpoint or tile cannot be served.
func (s *Server) unread(w http.ResponseWriter, status int, err error) {
	if status == http.StatusNotFound {
		refuse(w, status, err)
		return
	}
	s.fail(w, err)
}

// refuse answers with an error that the client should see.
func refuse(w http.ResponseWriter, status int, err error) {
	body, _ := json.Marshal(map[string]any{"code": status, "message": err.Error()})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

func refuseBusy(w http.ResponseWriter, why error) {
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	refuse(w, http.StatusServiceUnavailable, why)
}

// fail answers 500 without details and logs err for the operator.
func (s *Server) fail(w http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client has gone
	}
	s.log.Error("the log failed a request", "error", err)
	refuse(w, http.StatusInternalServerError, errors.New("the transparency log failed; the platform's log has the reason"))
}
