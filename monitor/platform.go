package monitor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/api"
)

const (
	maxRuns = 10_000          // runs that are remembered
	skew    = 5 * time.Minute // between the clocks of a platform's roles
	fresh   = 10 * time.Second
)

// Platform are the releases that a platform ran, asked of its API. A release explains the
// signatures of certificates that name it, its source and its commit, that a token of the platform's own
// issuer was for, and that were made while it ran: a stolen token or key signs at another time, or names no
// release, and what another issuer says of a release is not the platform's word.
type Platform struct {
	client *api.ClientConfig

	mu   sync.Mutex
	runs map[string]run // by id
}

type run struct {
	*api.Run // nil: the platform has no such release
	asked    time.Time
}

// NewPlatform returns the releases of the platform that c names.
func NewPlatform(c *api.ClientConfig) *Platform {
	return &Platform{client: c, runs: map[string]run{}}
}

var runID = lazyregexp.New(`^[0-9a-f]{32}$`)

// Explain implements Known.
func (p *Platform) Explain(ctx context.Context, s Signature) (bool, error) {
	url := strings.TrimSuffix(p.client.URL, "/")
	id, ok := strings.CutPrefix(s.Signer.Extensions.RunInvocationURI, url+api.PathReleases+"/")
	at, made := s.signed()
	if !ok || !made || !runID.MatchString(id) || !slices.Equal(s.Signer.Issuers, []string{url}) {
		return false, nil
	}
	r, err := p.run(ctx, id)
	if err != nil || r == nil {
		return false, err
	}
	x := s.Signer.Extensions
	switch {
	case r.Commit == "" || r.Commit != x.SourceRepositoryDigest, r.Source != x.SourceRepositoryURI:
		return false, nil
	case r.Started.IsZero() || at.Before(r.Started.Add(-skew)):
		return false, nil
	case !r.Ended.IsZero() && at.After(r.Ended.Add(skew)):
		return false, nil
	}
	return true, nil
}

// run asks for a release. An ended one does not change any more.
func (p *Platform) run(ctx context.Context, id string) (*api.Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.runs[id]; ok && (r.Run != nil && r.State.Ended() || time.Since(r.asked) < fresh) {
		return r.Run, nil
	}
	r, err := p.client.Run(ctx, id)
	if errors.Is(err, api.ErrNoRelease) {
		r, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(p.runs) >= maxRuns {
		clear(p.runs)
	}
	p.runs[id] = run{r, time.Now()}
	return r, nil
}
