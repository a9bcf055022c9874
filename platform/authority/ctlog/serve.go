package ctlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/tlog"
)

// Register serves checkpoint, tiles and issuers of the log under /ct/ (C2SP static-ct-api),
// and no other file of its directory. What is damaged on the disk is not served.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("GET /ct/", http.StripPrefix("/ct/", tlog.Handler{Source: published{s}, Data: "data", Fail: s.fail}))
	mux.HandleFunc("GET /ct/issuer/{sum}", s.serveIssuer)
}

// files is the log's directory as a tlog.Source. It verifies nothing.
type files struct{ root *os.Root }

// Checkpoint implements tlog.Source.
func (f files) Checkpoint(context.Context) ([]byte, error) { return f.read("checkpoint") }

// Tile implements tlog.Source.
func (f files) Tile(_ context.Context, t tlog.Tile) ([]byte, error) { return f.read(tilePath(t)) }

func tilePath(t tlog.Tile) string {
	return strings.Replace(t.Path(), "tile/entries/", "tile/data/", 1)
}

func (f files) read(path string) ([]byte, error) {
	st, err := f.root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: %w", path, fs.ErrNotExist)
	}
	return f.root.ReadFile(path)
}

// view is a checkpoint that was verified.
type view struct {
	tlog.Checkpoint
	signed []byte
}

// follow reads the published checkpoint. It fails if the log did not sign it, or if it does
// not extend the one that follow read before.
func (s *Service) follow(ctx context.Context) (view, error) {
	signed, err := files{s.root}.Checkpoint(ctx)
	if err != nil {
		return view{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(signed, s.last.signed) {
		return s.last, nil
	}
	cp, err := tlog.OpenCheckpoint(signed, s.verifier)
	if err != nil {
		return view{}, err
	}
	switch before := s.last; {
	case before.signed == nil:
	case cp.Size < before.Size: // another request has read a newer one meanwhile
		return before, nil
	default:
		if err := tlog.Extends(ctx, files{s.root}, before.Checkpoint, cp); err != nil {
			return view{}, err
		}
	}
	s.last = view{cp, signed}
	return s.last, nil
}

// published is what clients get. It verifies what it reads from the disk.
type published struct{ *Service }

// Checkpoint implements tlog.Source.
func (p published) Checkpoint(ctx context.Context) ([]byte, error) {
	v, err := p.follow(ctx)
	return v.signed, err
}

// Tile implements tlog.Source.
func (p published) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	v, err := p.follow(ctx)
	if err != nil {
		return nil, err
	}
	have, ok := t.At(v.Size)
	if !ok || have.Width < t.Width {
		return nil, fmt.Errorf("a checkpoint of %d entries does not cover %s: %w", v.Size, t.Path(), fs.ErrNotExist)
	}
	src := files{p.root}
	data, err := src.Tile(ctx, t)
	if errors.Is(err, fs.ErrNotExist) && t.Width < have.Width {
		return nil, err // Tessera deletes partial tiles that have grown
	}
	if err == nil {
		err = src.verifyTile(ctx, src, v.Checkpoint, t, data)
	}
	if err != nil {
		return nil, fmt.Errorf("the log is damaged: %v", err) // not fs.ErrNotExist: the log has this tile
	}
	return data, nil
}

func (s *Service) fail(w http.ResponseWriter, status int, err error) {
	if status != http.StatusNotFound {
		s.log.Error("the CT log cannot serve a file", "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}

var sha256Hex = lazyregexp.New(`^[0-9a-f]{64}$`)

// serveIssuer serves an issuing certificate by its SHA-256.
func (s *Service) serveIssuer(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	if !sha256Hex.MatchString(sum) {
		http.NotFound(w, r)
		return
	}
	issuer, err := files{s.root}.issuer(sum)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, r)
		return
	case err != nil:
		s.fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-cert")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(issuer.Raw)
}
