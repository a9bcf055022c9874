package api

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// ArchiveSearcher asks a platform which content of its archive has something, and verifies the
// answers (spec/archive/v1).
type ArchiveSearcher struct {
	client   *ClientConfig
	LogKey   note.Verifier // of the archive's log
	IndexKey note.Verifier // of its index log
}

// ArchiveSearcher returns the searcher of the platform's archive. origin and key are those of the
// platform's transparency log, from a trust root.
func (c *ClientConfig) ArchiveSearcher(origin string, key crypto.PublicKey) (*ArchiveSearcher, error) {
	s := &ArchiveSearcher{client: c}
	var err error
	if s.LogKey, err = tlog.NewVerifier(search.ArchiveOrigin(origin), key); err != nil {
		return nil, err
	}
	s.IndexKey, err = tlog.NewVerifier(search.IndexOrigin(search.ArchiveOrigin(origin)), key)
	return s, err
}

// Log returns what the archive's log serves.
func (s *ArchiveSearcher) Log() tlog.Source { return archiveSource{s.client, PathArchiveLog} }

// Index returns what the index log of the archive's log serves.
func (s *ArchiveSearcher) Index() tlog.Source { return archiveSource{s.client, PathArchiveIndex} }

// archiveSource is a log below a path of a platform. It sends the token.
type archiveSource struct {
	client *ClientConfig
	prefix string
}

// maxTile is the limit of a tile, in bytes: 256 entries of the largest size, with their lengths.
const maxTile = tlog.TileWidth * (tlog.MaxEntry + 2)

func (s archiveSource) Checkpoint(ctx context.Context) ([]byte, error) {
	return s.get(ctx, "checkpoint", tlog.MaxCheckpoint)
}

func (s archiveSource) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	return s.get(ctx, t.Path(), maxTile)
}

func (s archiveSource) get(ctx context.Context, path string, max int) ([]byte, error) {
	raw, err := s.client.archived(ctx, s.prefix+path, max)
	if err != nil {
		return nil, unanswered{err}
	}
	return raw, nil
}

// ErrUnanswered matches the errors of an archive that did not answer, or not what was asked for:
// they say nothing about what it has. Other errors of an ArchiveSearcher show that what the archive
// and its operator signed or keep does not fit together.
var ErrUnanswered = errors.New("the archive did not answer")

type unanswered struct{ error }

func (unanswered) Is(target error) bool { return target == ErrUnanswered }
func (u unanswered) Unwrap() error      { return u.error }

// Content returns the content of a record. A record that adds to an earlier one has the same content.
func (s *ArchiveSearcher) Content(ctx context.Context, r search.Record) ([]byte, error) {
	raw, err := s.client.Content(ctx, Kept{Digest: r.Digest, Size: r.Size})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the archive lost the content of record %d: %w", r.Number, err)
	case err != nil:
		return nil, unanswered{err}
	}
	return raw, nil
}

// ArchiveMatch is content of the archive that has what was asked for, verified.
type ArchiveMatch struct {
	search.Match
	Record  search.Record
	Content []byte // nil if Record adds to an earlier one
}

// Search asks for all that has the question's key, in pages, from the question's From on. It
// verifies each page, and compares with the content of each match; only then it calls each, in
// order. It holds the content of one match in memory. If each returns
// ErrEnough, Search ends. The result is that of the last page; its Next is where to go on, or nil
// if there are no others. See ErrUnanswered for errors; those of each are returned as they are.
func (s *ArchiveSearcher) Search(ctx context.Context, q search.ArchiveQuestion, each func(ArchiveMatch) error) (*search.ArchiveVerified, error) {
	// The checkpoints first: an answer that is older hides something.
	before, err := open(ctx, s.Log(), s.LogKey)
	if err != nil {
		return nil, err
	}
	indexBefore, err := open(ctx, s.Index(), s.IndexKey)
	if err != nil {
		return nil, err
	}
	for {
		v, err := s.page(ctx, q)
		if err != nil {
			return nil, err
		}
		if err := tlog.Extends(ctx, s.Log(), before, v.Newest); err != nil {
			return nil, err
		}
		if err := tlog.Extends(ctx, s.Index(), indexBefore, v.Index); err != nil {
			return nil, err
		}
		before, indexBefore = v.Newest, v.Index
		for i, m := range v.Matches {
			found := ArchiveMatch{Match: m, Record: v.Records[m.Index]}
			if found.Record.Of == 0 {
				if found.Content, err = s.Content(ctx, found.Record); err != nil {
					return nil, err
				}
			}
			if err := search.CheckContent(found.Record, q.Kind, m.Value, found.Content); err != nil {
				return nil, err
			}
			err := each(found)
			if errors.Is(err, ErrEnough) {
				if i+1 < len(v.Matches) {
					v.Next = q.Place(v.Matches[i+1])
				}
				return v, nil
			} else if err != nil {
				return nil, err
			}
		}
		if v.Next == nil {
			return v, nil
		}
		q.From = v.Next
	}
}

// ErrEnough ends a Search.
var ErrEnough = errors.New("enough")

// open returns the newest checkpoint of a log.
func open(ctx context.Context, src tlog.Source, key note.Verifier) (tlog.Checkpoint, error) {
	signed, err := src.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Checkpoint{}, unanswered{errors.New("it cannot be searched: it has no log")}
	} else if err != nil {
		return tlog.Checkpoint{}, err
	}
	return tlog.OpenCheckpoint(signed, key)
}

// page asks for one page, and verifies it.
func (s *ArchiveSearcher) page(ctx context.Context, q search.ArchiveQuestion) (*search.ArchiveVerified, error) {
	query := url.Values{"kind": {string(q.Kind)}, "limit": {strconv.Itoa(search.MaxPage)}}
	if q.Value != "" {
		query.Set("value", q.Value)
	}
	if q.Prefix {
		query.Set("prefix", "true")
	}
	if q.From != nil {
		query.Set("from", base64.URLEncoding.EncodeToString(q.From))
	}
	raw, err := s.client.archived(ctx, PathArchiveSearch+"?"+query.Encode(), search.MaxAnswer)
	if err != nil {
		return nil, unanswered{err}
	}
	a, err := search.ParseArchiveAnswer(raw)
	if err != nil {
		return nil, unanswered{fmt.Errorf("platform %s, archive: %w", strings.TrimSuffix(s.client.URL, "/"), err)}
	}
	v, err := a.Verify(q, s.LogKey, s.IndexKey)
	if err != nil {
		return nil, fmt.Errorf("the answer proves nothing: %w", err)
	}
	return v, nil
}
