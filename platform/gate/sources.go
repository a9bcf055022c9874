package gate

import (
	"sync"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
)

const (
	maxSources = 64
	sourceLife = 5 * time.Minute // then the upstream is asked again whether its reader may read
)

type sourceOf struct {
	repository string
	reader     verdicts.ReaderID
}

type source struct {
	*oci.Registry
	since time.Time
}

// sources keeps repositories of the upstream for each reader, with the token of its login.
type sources struct {
	mu   sync.Mutex
	kept map[sourceOf]source
}

func (s *sources) open(of sourceOf, now time.Time, open func() (*oci.Registry, error)) (*oci.Registry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.kept[of]; ok && now.Sub(known.since) < sourceLife && !now.Before(known.since) {
		return known.Registry, nil
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	if s.kept == nil {
		s.kept = map[sourceOf]source{}
	}
	if len(s.kept) >= maxSources {
		oldest := of
		for other, o := range s.kept {
			if oldest == of || o.since.Before(s.kept[oldest].since) {
				oldest = other
			}
		}
		delete(s.kept, oldest)
	}
	s.kept[of] = source{r, now}
	return r, nil
}
