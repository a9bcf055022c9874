package admission

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// SignedList is a list of images that somebody signed, so that admission knows them before pods ask:
// REPOSITORY@sha256:HEX, one a line, or manifests that name them. The signature is a bundle beside
// it, as "colophon sign FILE" writes it: FROM.sigstore.json.
type SignedList struct {
	From    string `json:"from"`    // file, or URL (https)
	Authors string `json:"authors"` // file with those who may sign it, as "colophon policy trust" writes it: policy-authors.json
}

const listEvery = 5 * time.Minute

func (s *SignedList) check() error {
	if s.From == "" || s.Authors == "" {
		return errors.New("list: expected from and authors")
	}
	if u, err := url.Parse(s.From); strings.Contains(s.From, "://") && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || !loopback.OrTLS(u)) {
		return fmt.Errorf("list: from: expected a file, or https://HOST/PATH, found %q", s.From)
	}
	return nil
}

// fromList names the images of a signed list, until ctx ends. What nobody signed who may names
// nothing; the list before stays.
func (f *filler) fromList(ctx context.Context, s SignedList) {
	said := ""
	var last [sha256.Size]byte
	for ctx.Err() == nil {
		wait := listEvery
		roots := f.h.Verdicts.Roots()
		if roots == nil { // not read yet
			wait = time.Second
		} else {
			images, sum, err := s.read(ctx, roots, f.h.Now())
			switch {
			case err == nil:
				if said = ""; sum != last {
					last = sum
					f.name("list", images)
					f.h.Log.Info("a signed list names images", "list", s.From, "images", len(images))
				}
			case ctx.Err() == nil && err.Error() != said:
				said = err.Error()
				f.h.Log.Error("the list of images cannot be used", "list", s.From, "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(wait)):
		}
	}
}

// read returns the images of the list, if one of its authors signed it.
func (s *SignedList) read(ctx context.Context, roots []*trust.Root, now time.Time) ([]imagelist.Image, [sha256.Size]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var none [sha256.Size]byte
	raw, err := fetch(ctx, s.From, limits.ImageList)
	if err != nil {
		return nil, none, err
	}
	signature, err := fetch(ctx, s.From+".sigstore.json", limits.Bundle)
	if err != nil {
		return nil, none, err
	}
	names, err := strict.ReadFile(s.Authors, limits.Request)
	if err != nil {
		return nil, none, err
	}
	authors, err := policy.ParseAuthors(names)
	if err != nil {
		return nil, none, strict.In(s.Authors, err)
	}
	if _, _, err := verify.SignedPolicy(ctx, s.From, raw, [][]byte{signature}, authors, now, roots); err != nil {
		return nil, none, err
	}
	var list imagelist.List
	if err := list.Document(raw); err != nil {
		return nil, none, strict.In(s.From, err)
	}
	return list.Images, sha256.Sum256(raw), nil
}

// lists fetches lists, and follows no redirects: only the host that the settings name is asked.
var lists = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// fetch reads a file, or what a URL answers.
func fetch(ctx context.Context, from string, most int) ([]byte, error) {
	if !strings.Contains(from, "://") {
		return strict.ReadFile(from, most)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := lists.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, resp.Status)
	}
	return strict.Read(resp.Body, most)
}
