package main

import (
	"context"

	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
)

// archiveAskers returns those that ask the archive of a platform, whose log is log.
func archiveAskers(platform *api.ClientConfig, log *trustedLog) map[investigate.ID]investigate.Asker {
	s, err := platform.ArchiveSearcher(log.Origin, log.Key)
	if err != nil {
		return nil // the log's own key gives no other error than that it is of no known kind
	}
	return investigate.ArchiveAskers(askedArchive{s, platform})
}

// askedArchive is an archive as investigations ask it.
type askedArchive struct {
	*api.ArchiveSearcher
	platform *api.ClientConfig
}

// Name implements investigate.ArchiveSearch.
func (a askedArchive) Name() string { return a.platform.URL + ", archive" }

// Filling implements investigate.ArchiveSearch.
func (a askedArchive) Filling(ctx context.Context) (bool, error) {
	kept, err := a.platform.KeptWith(ctx, noLeaf, 0)
	if err != nil {
		return false, err
	}
	return kept.Filling, nil
}

// Find implements investigate.ArchiveSearch.
func (a askedArchive) Find(ctx context.Context, kind search.Kind, value string, limit int) (found []investigate.Archived, total int64, err error) {
	q := search.ArchiveQuestion{}
	q.Kind = kind
	q.Value, q.Prefix = archiveValue(kind, value)
	v, err := a.Search(ctx, q, func(m api.ArchiveMatch) error {
		one := investigate.Archived{Number: m.Record.Number, Entry: m.Record.Entry, About: describeArchived(m).About}
		if len(m.Content) <= investigate.MaxContent {
			one.Content = m.Content
		}
		if found = append(found, one); len(found) >= limit {
			return api.ErrEnough
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return found, v.Total, nil
}
