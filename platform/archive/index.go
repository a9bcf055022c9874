package archive

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/colophon-build/colophon/internal/cachedb"
	"github.com/colophon-build/colophon/platform/api"
)

// index finds records of the journal. It is a cache, filled from the journal: it can be
// deleted. Not safe for concurrent use.
type index struct {
	db     *sql.DB
	number int64 // of the last record
	offset int64 // in the journal, after the last record
}

// indexCache: kept has a row for each piece of evidence, found has a row for each leaf
// ("leaf:HEX") and digest ("sha256:HEX") that it is found by, covered has one row.
var indexCache = cachedb.Cache{
	Name: "the index of the archive",
	Schema: `
CREATE TABLE kept (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, kept TEXT NOT NULL) STRICT;
CREATE TABLE found (by TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (by, number)) STRICT, WITHOUT ROWID;
CREATE TABLE covered (number INTEGER NOT NULL, offset INTEGER NOT NULL) STRICT;
INSERT INTO covered (number, offset) VALUES (0, 0);
`,
	Version: 1,
}

// openIndex opens the index at path. If it is missing or damaged, it is created again.
func openIndex(path string, log *slog.Logger) (*index, error) {
	x := &index{}
	db, err := indexCache.Open(path, log, func(db *sql.DB) error {
		return db.QueryRow("SELECT number, offset FROM covered").Scan(&x.number, &x.offset)
	})
	if err != nil {
		return nil, err
	}
	x.db = db
	return x, nil
}

// id identifies evidence: the same content with the same annotations is kept once.
func (r *record) id() ([]byte, error) {
	text, err := json.Marshal([]any{r.Form, r.Digest, r.Annotations})
	sum := sha256.Sum256(text)
	return sum[:], err
}

// missing returns the evidence that the index has for r, nil if it has none, and the
// subjects of r that it does not find it by.
func (x *index) missing(r *record) (*api.Kept, []string, error) {
	id, err := r.id()
	if err != nil {
		return nil, nil, err
	}
	var text []byte
	err = x.db.QueryRow("SELECT kept FROM kept WHERE id = ?", id).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, r.Subjects, nil
	}
	var kept api.Kept
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	var more []string
	for _, s := range r.Subjects {
		var n int
		if err == nil {
			err = x.db.QueryRow("SELECT count(*) FROM found WHERE by = ? AND number = ?", s, kept.Number).Scan(&n)
		}
		if n == 0 {
			more = append(more, s)
		}
	}
	return &kept, more, err
}

// follow adds the records of the journal that the index does not have.
func (x *index) follow(j *journal) error {
	const perCommit = 4096
	if x.offset > j.size {
		return fmt.Errorf("the index has %d bytes of the journal, the journal only %d: acknowledged evidence is missing; restore %s from a backup", x.offset, j.size, j.f.Name())
	}
	for x.offset < j.size {
		tx, err := x.db.Begin()
		if err != nil {
			return err
		}
		number, offset, n := x.number, x.offset, 0
		err = j.each(x.offset, func(r *record, next int64) error {
			if n++; n > perCommit {
				return errEnough
			}
			if r.Number != number+1 {
				return fmt.Errorf("%s: record: got number %d, want %d", j.f.Name(), r.Number, number+1)
			}
			number, offset = r.Number, next
			return add(tx, r)
		})
		if err == nil || errors.Is(err, errEnough) {
			if _, err = tx.Exec("UPDATE covered SET number = ?, offset = ?", number, offset); err == nil {
				err = tx.Commit()
			}
		}
		if err != nil {
			tx.Rollback()
			return err
		}
		x.number, x.offset = number, offset
	}
	return nil
}

var errEnough = errors.New("enough for one commit")

// add adds a record to the index.
func add(tx *sql.Tx, r *record) error {
	number := r.Number
	if r.Of != 0 {
		number = r.Of
	} else {
		id, err := r.id()
		if err != nil {
			return err
		}
		text, err := json.Marshal(r.Kept)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO kept (number, id, kept) VALUES (?, ?, ?)", number, id, string(text)); err != nil {
			return err
		}
	}
	by := r.Subjects
	if r.Leaf != "" {
		by = append(by[:len(by):len(by)], "leaf:"+r.Leaf)
	}
	for _, key := range by {
		if _, err := tx.Exec("INSERT OR IGNORE INTO found (by, number) VALUES (?, ?)", key, number); err != nil {
			return err
		}
	}
	return nil
}

// list returns what is found by key, or all if key is empty, after a number: at most
// api.MaxKept pieces, and less than api.MaxKeptBytes bytes of them.
func (x *index) list(key string, after int64) (list api.KeptList, err error) {
	query, args := "SELECT number, kept FROM kept WHERE number > ? ORDER BY number LIMIT ?", []any{after, api.MaxKept + 1}
	if key != "" {
		query = "SELECT k.number, k.kept FROM found f JOIN kept k ON k.number = f.number WHERE f.by = ? AND f.number > ? ORDER BY f.number LIMIT ?"
		args = append([]any{key}, args...)
	}
	rows, err := x.db.Query(query, args...)
	if err != nil {
		return list, err
	}
	defer rows.Close()
	list.Kept = []api.Kept{}
	bytes := 0
	for rows.Next() {
		var number int64
		var text []byte
		if err := rows.Scan(&number, &text); err != nil {
			return list, err
		}
		bytes += len(text) + 1
		if n := len(list.Kept); n == api.MaxKept || bytes > api.MaxKeptBytes-1024 {
			list.Next = list.Kept[n-1].Number
			break
		}
		var k api.Kept
		if err := json.Unmarshal(text, &k); err != nil {
			return list, err
		}
		list.Kept = append(list.Kept, k)
	}
	return list, rows.Err()
}

func (x *index) close() error { return x.db.Close() }
