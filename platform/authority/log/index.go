package log

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/colophon-build/colophon/internal/cachedb"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/tlog"
)

// index maps a leaf hash to its entry. It is a cache of the first size entries of the log,
// filled from the log's tiles. Not safe for concurrent use.
type index struct {
	db   *sql.DB
	find *sql.Stmt
	tiles.Covered
}

// indexCache: leaf has one row per leaf hash, with the first such entry; covered has one row.
var indexCache = cachedb.Cache{
	Name: "the index of the log",
	Schema: `
CREATE TABLE leaf (hash BLOB PRIMARY KEY, entry INTEGER NOT NULL) STRICT, WITHOUT ROWID;
` + tiles.CoveredSchema,
	Version: 1,
}

// openIndex opens the index at path. If it is missing or damaged, openIndex creates it again:
// the log has all its contents. Any other error, such as that of a full disk, is returned:
// the index is what shows that acknowledged entries are missing from the log.
func openIndex(path string, log *slog.Logger) (*index, error) {
	x := &index{}
	db, err := indexCache.Open(path, log, func(db *sql.DB) (err error) {
		if err := x.Load(db); err != nil {
			return err
		}
		x.find, err = db.Prepare("SELECT entry FROM leaf WHERE hash = ?")
		return err
	})
	if err != nil {
		return nil, err
	}
	x.db = db
	return x, nil
}

// lookup returns the index of the entry with this leaf hash; found is false if none of the
// covered entries has it.
func (x *index) lookup(leaf tlog.Hash) (entry int64, found bool, err error) {
	err = x.find.QueryRow(leaf[:]).Scan(&entry)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return entry, err == nil, err
}

// extend adds the entries under cp that the index does not have.
func (x *index) extend(ctx context.Context, src tlog.Source, cp tlog.Checkpoint) error {
	err := x.Extend(cp, func(size int64) error { return x.add(ctx, src, cp, size) })
	if err != nil {
		return fmt.Errorf("index of the log, %w", err)
	}
	return nil
}

// add adds the entries up to size in one transaction.
func (x *index) add(ctx context.Context, src tlog.Source, cp tlog.Checkpoint, size int64) error {
	root := cp.Root
	if size < cp.Size {
		var err error
		if root, err = tlog.Root(ctx, src, size, cp); err != nil {
			return err
		}
	}
	tx, err := x.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// If an entry is in the log twice, keep the first.
	insert, err := tx.Prepare("INSERT OR IGNORE INTO leaf (hash, entry) VALUES (?, ?)")
	if err != nil {
		return err
	}
	for from := x.Size; from < size; {
		to := min(size, (from/tlog.TileWidth+1)*tlog.TileWidth)
		leaves, err := tlog.Leaves(ctx, src, cp, from, to)
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			if _, err := insert.Exec(leaf[:], from+int64(i)); err != nil {
				return err
			}
		}
		from = to
	}
	return x.Commit(tx, size, root)
}

func (x *index) close() error { return errors.Join(x.find.Close(), x.db.Close()) }
