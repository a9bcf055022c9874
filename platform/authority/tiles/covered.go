package tiles

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/colophon-build/colophon/internal/cachedb"
	"github.com/colophon-build/colophon/tlog"
)

// Covered says how much of a log an SQLite database covers that can be made again from the log's
// tiles (package cachedb): its first Size entries, whose tree has Root.
type Covered struct {
	Size int64
	Root tlog.Hash
}

// CoveredSchema creates the table that keeps a Covered, for a database that covers nothing yet.
var CoveredSchema = fmt.Sprintf(`CREATE TABLE covered (size INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
INSERT INTO covered (size, root) VALUES (0, x'%x');`, [32]byte(tlog.EmptyRoot()))

// Load reads it from the database.
func (c *Covered) Load(db *sql.DB) error {
	var root []byte
	if err := db.QueryRow("SELECT size, root FROM covered").Scan(&c.Size, &root); err != nil {
		return err
	}
	if len(root) != len(c.Root) {
		return fmt.Errorf("%w: root: expected %d bytes, found %d", cachedb.ErrDamaged, len(c.Root), len(root))
	}
	c.Root = tlog.Hash(root)
	return nil
}

// Check fails unless the log with the checkpoint cp begins with the entries that the database covers.
// If it does not, the log lost or changed entries that it had acknowledged. The error says so, of a log
// that it calls name.
func (c *Covered) Check(ctx context.Context, name string, src tlog.Source, cp tlog.Checkpoint) error {
	if c.Size > cp.Size {
		return fmt.Errorf("the index has %d entries, the %s only %d: acknowledged entries are missing", c.Size, name, cp.Size)
	}
	root, err := tlog.Root(ctx, src, c.Size, cp)
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("root of the first %d entries: the %s has %v, the index %v: acknowledged entries were changed", c.Size, name, root, c.Root)
	}
	return nil
}

// Extend calls add until the database covers the checkpoint cp. add adds the entries up to size, and
// ends with Commit.
func (c *Covered) Extend(cp tlog.Checkpoint, add func(size int64) error) error {
	const perCommit = 32 * tlog.TileWidth
	for c.Size < cp.Size {
		if err := add(min(cp.Size, c.Size+perCommit)); err != nil {
			return fmt.Errorf("from entry %d: %w", c.Size, err)
		}
	}
	return nil
}

// Commit commits a transaction after which the database covers size entries, whose tree has this root.
func (c *Covered) Commit(tx *sql.Tx, size int64, root tlog.Hash) error {
	if _, err := tx.Exec("UPDATE covered SET size = ?, root = ?", size, root[:]); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	c.Size, c.Root = size, root
	return nil
}
