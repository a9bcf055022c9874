package log

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/colophon-build/colophon/internal/cachedb"
	"github.com/colophon-build/colophon/tlog"
)

// index maps a leaf hash to its entry. It is a cache of the first size entries of the log,
// filled from the log's tiles. Not safe for concurrent use.
type index struct {
	db   *sql.DB
	find *sql.Stmt
	size int64 // entries covered
	root tlog.Hash
}

// indexCache: leaf has one row per leaf hash, with the first such entry; covered has one row.
var indexCache = cachedb.Cache{
	Name: "the index of the log",
	Schema: `
CREATE TABLE leaf (hash BLOB PRIMARY KEY, entry INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE covered (size INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
` + fmt.Sprintf("INSERT INTO covered (size, root) VALUES (0, x'%x');", [32]byte(tlog.EmptyRoot())),
	Version: 1,
}

// openIndex opens the index at path. If it is missing or damaged, openIndex creates it again:
// the log has all its contents. Any other error, such as that of a full disk, is returned:
// the index is what shows that acknowledged entries are missing from the log.
func openIndex(path string, log *slog.Logger) (*index, error) {
	x := &index{}
	db, err := indexCache.Open(path, log, func(db *sql.DB) (err error) {
		var root []byte
		if err := db.QueryRow("SELECT size, root FROM covered").Scan(&x.size, &root); err != nil {
			return err
		}
		if len(root) != len(x.root) {
			return fmt.Errorf("%w: root: expected %d bytes, found %d", cachedb.ErrDamaged, len(x.root), len(root))
		}
		x.root = tlog.Hash(root)
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

// check compares the index with the log. If the index has more entries, or different ones,
// acknowledged entries were lost, and check returns an error.
func (x *index) check(ctx context.Context, src tlog.Source, cp tlog.Checkpoint) error {
	if x.size > cp.Size {
		return fmt.Errorf("the index has %d entries, the log only %d: acknowledged entries are missing", x.size, cp.Size)
	}
	root, err := tlog.Root(ctx, src, x.size, cp)
	if err != nil {
		return err
	}
	if root != x.root {
		return fmt.Errorf("root of the first %d entries: the log has %v, the index %v: acknowledged entries were changed", x.size, root, x.root)
	}
	return nil
}

// extend adds the entries under cp that the index does not have.
func (x *index) extend(ctx context.Context, src tlog.Source, cp tlog.Checkpoint) error {
	const perCommit = 32 * tlog.TileWidth
	for x.size < cp.Size {
		if err := x.add(ctx, src, cp, min(cp.Size, x.size+perCommit)); err != nil {
			return fmt.Errorf("index of the log, from entry %d: %w", x.size, err)
		}
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
	for from := x.size; from < size; {
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
	if _, err := tx.Exec("UPDATE covered SET size = ?, root = ?", size, root[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	x.size, x.root = size, root
	return nil
}

func (x *index) close() error { return errors.Join(x.find.Close(), x.db.Close()) }
