// Package distrust keeps the platform's list of what is no longer trusted (spec/distrust/v1), signs its
// head with a key of its own, and serves it. It signs the head again every few minutes, so that the list
// that a reader has is never older than that.
package distrust

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/colophon-build/colophon/audit"
	list "github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/sign"
)

// Paths, as package api has them for clients.
const (
	Path    = "/distrust"
	PathKey = "/distrust/key"
)

// HeaderAccount names the account that asks. The role that checked its token sets it.
const HeaderAccount = "Colophon-Account"

const (
	life  = 15 * time.Minute // of a head
	renew = 5 * time.Minute

	keyName  = "distrust"
	listFile = "list"
	madeFile = "distrust.list" // in the directory of keys: there is a list
)

// Config of a Service.
type Config struct {
	KeyDir string       // has the key; created at first start
	Dir    string       // has the list
	URL    string       // of the platform
	Log    *slog.Logger // required
	// Record brings each change to an audit ledger, before the list changes. If it fails, the list stays as it is.
	// nil: nobody does.
	Record func(context.Context, audit.Record) error
	Now    func() time.Time
}

// Service has the list. It is safe for concurrent use.
type Service struct {
	Config
	key *keys.Key
	pem []byte

	adding sync.Mutex // one writer

	mu   sync.Mutex // readers wait for no record
	raw  []byte
	list *list.List
	etag string
}

// New opens the list, and makes an empty one at the first start. It fails if the list that was there is lost:
// clients would refuse another one.
func New(c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	key, err := keys.Open(c.KeyDir, keyName)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Service{Config: c, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	made := filepath.Join(c.KeyDir, madeFile)
	switch raw, err := strict.ReadFile(filepath.Join(c.Dir, listFile), list.MaxList); {
	case err == nil:
		if s.list, err = list.Parse(raw); err == nil { // signed again, it is ours
			head, signature := s.list.Signed()
			err = sign.CheckUnlogged(key.Public(), head, signature)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; restore it from a backup", filepath.Join(c.Dir, listFile), err)
		}
		s.raw = raw
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		if _, err := os.Lstat(made); err == nil {
			return nil, fmt.Errorf("the list of what is no longer trusted is lost: %s is missing; restore it from a backup", filepath.Join(c.Dir, listFile))
		}
	}
	if _, err := s.Add(context.Background()); err != nil {
		return nil, err
	}
	return s, durable.WriteFile(made, []byte(c.URL+Path+"\n"), 0o600)
}

// Add adds entries, whose numbers and times it sets, and signs the list. They are on disk when it returns. If
// the error matches recorder.ErrNotRecorded, the audit ledger did not record them, and the list is as before.
func (s *Service) Add(ctx context.Context, more ...list.Entry) ([]list.Entry, error) {
	s.adding.Lock()
	defer s.adding.Unlock()
	now := s.Now()
	if s.list != nil && now.Before(s.list.Issued) {
		// The clock went back. Readers take an older head of the same entries for a rollback, and refuse one from
		// the future: those whose clocks are right read no entry more while the head is far ahead.
		if ahead := s.list.FromFuture(now); ahead == nil {
			now = s.list.Issued
		} else {
			s.Log.Warn("the clock went back; the list of what is no longer trusted is signed with its time", "before", ahead)
		}
	}
	before := 0
	if s.list != nil {
		before = s.list.Entries
	}
	for i := range more {
		more[i].Number, more[i].Time = before+i, now.UTC().Truncate(time.Second)
	}
	head, lines, err := list.Next(s.list, s.URL+Path, more, now, life)
	if err != nil {
		return nil, err
	}
	signature, err := sign.Unlogged(s.key, head)
	if err != nil {
		return nil, err
	}
	raw := list.File(s.raw, head, signature, lines)
	next, err := list.Parse(raw)
	if err != nil {
		return nil, err
	}
	acts := s.acts(more, lines, raw)
	if err := s.record(ctx, acts); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(s.Dir, listFile), raw, 0o600); err != nil {
		for i := range acts {
			acts[i].Outcome, acts[i].Reason = audit.Failed, audit.Shown("the list could not be written")
		}
		return nil, errors.Join(err, s.record(ctx, acts))
	}
	sum := sha256.Sum256(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw, s.list, s.etag = raw, next, `"`+hex.EncodeToString(sum[:16])+`"`
	return more, nil
}

// acts returns the records of the changes that make the list raw.
func (s *Service) acts(more []list.Entry, lines [][]byte, raw []byte) (acts []audit.Record) {
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	for i, e := range more {
		r := audit.Record{
			Kind: audit.KindDistrust, Outcome: audit.Done, Basis: audit.Basis{Distrust: digest(raw)}, Reason: audit.Shown(e.Reason),
			Statement: &audit.Statement{MediaType: statementType, Data: lines[i]},
		}
		r.By.User = audit.Shown(e.By)
		if s.raw != nil {
			r.Basis.Before = digest(s.raw)
		}
		if e.Lift != nil {
			r.Kind = audit.KindLift
		}
		if scope := e.Scope; scope != nil {
			r.About = audit.About{Source: scope.Source, Commit: scope.Commit, Builder: scope.Builder, Digest: scope.Digest}
		}
		acts = append(acts, r)
	}
	return acts
}

// statementType is the media type of an entry of a list (spec/distrust/v1) in a record.
const statementType = "application/vnd.colophon.distrust.v1+json"

func (s *Service) record(ctx context.Context, acts []audit.Record) error {
	if s.Record == nil {
		return nil
	}
	for _, r := range acts {
		if err := s.Record(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// Run signs the list again every few minutes, until done is closed.
func (s *Service) Run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(renew):
		}
		if _, err := s.Add(context.Background()); err != nil {
			s.Log.Error("the list of what is no longer trusted could not be signed again", "error", err)
		}
	}
}

// Register adds the public paths to mux.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+Path, s.serve)
	mux.HandleFunc("GET "+PathKey, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(s.pem) // the client is gone
	})
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	raw, etag := s.raw, s.etag
	s.mu.Unlock()
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Type", "application/jsonl")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(raw) // the client is gone
}

// Adding returns the handler of POST Path: an entry, by the account in HeaderAccount. Only the role that
// checks tokens may reach it.
func (s *Service) Adding() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := strict.Read(http.MaxBytesReader(w, r.Body, list.MaxEntry), list.MaxEntry)
		var e list.Entry
		if err == nil {
			err = strict.UnmarshalKnown(raw, list.MaxEntry, &e)
		}
		account := r.Header.Get(HeaderAccount)
		switch {
		case err != nil:
			http.Error(w, fmt.Sprintf("request: %v", err), http.StatusBadRequest)
			return
		case account == "":
			http.Error(w, "the request has no account", http.StatusForbidden)
			return
		}
		e.By = account
		added, err := s.Add(r.Context(), e)
		if errors.Is(err, recorder.ErrNotRecorded) {
			s.Log.Error("THE LIST OF WHAT IS NO LONGER TRUSTED DID NOT CHANGE", "by", account, "error", err)
			http.Error(w, recorder.ErrNotRecorded.Error()+"; the list did not change; the log of the platform says why", http.StatusServiceUnavailable)
			return
		} else if err != nil {
			http.Error(w, fmt.Sprintf("request: %v", err), http.StatusBadRequest)
			return
		}
		s.Log.Info("the list of what is no longer trusted has another entry", "number", added[0].Number, "by", account, "reason", e.Reason)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(added[0]) // the client is gone; the entry counts
	})
}
