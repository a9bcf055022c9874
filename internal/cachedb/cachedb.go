// Package cachedb opens SQLite databases that are caches: whatever they have can be made again from
// files that are durable.
//
// A power cut may take the last commits of such a database, but never an earlier one without the later
// ones. So it can say how much of its source it covers, and that is true at every start.
package cachedb

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrDamaged means that a database is not one that its program wrote.
var ErrDamaged = errors.New("the database is damaged")

// Cache says what a database is.
type Cache struct {
	// Name is what the operator calls it, such as "the index of the log".
	Name string

	// Schema makes the tables of a new database, with their first rows. Version is the version of the
	// schema, from 1: a database of another version is made again.
	Schema  string
	Version int

	// Pragmas are set on each connection, such as "secure_delete(ON)".
	Pragmas []string
}

// Open opens the database at path with one connection, and calls load, which reads what the database
// covers. If the file is missing, or if it is damaged, has another version or load returns an error that
// matches ErrDamaged or sql.ErrNoRows, Open makes it again. Any other error, such as that of a full disk,
// is returned, and changes nothing: what the cache covers can be the only sign that its source lost
// something.
func (c Cache) Open(path string, log *slog.Logger, load func(*sql.DB) error) (*sql.DB, error) {
	if _, err := os.Stat(path); err == nil {
		db, err := c.read(path, load)
		if !isDamage(err) {
			return db, err
		}
		log.Warn(c.Name+" is damaged; making it again", "path", path, "error", err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := c.create(path); err != nil {
		return nil, err
	}
	return c.read(path, load)
}

// create replaces what is at path by a new database. After a crash in the middle it has no version, and
// is made again.
func (c Cache) create(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	db, err := c.connect(path, "rwc", 1)
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err == nil {
		_, err = tx.Exec(c.Schema + fmt.Sprintf("PRAGMA user_version = %d;", c.Version))
	}
	if err == nil {
		err = tx.Commit()
	}
	return errors.Join(err, db.Close())
}

func (c Cache) read(path string, load func(*sql.DB) error) (*sql.DB, error) {
	db, err := c.Connect(path, 1)
	if err != nil {
		return nil, err
	}
	var version int
	err = db.QueryRow("PRAGMA user_version").Scan(&version)
	if err == nil && version != c.Version {
		err = fmt.Errorf("%w: version: expected %d, found %d", ErrDamaged, c.Version, version)
	}
	if err == nil {
		if err = load(db); errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("%w: it does not say what it covers", ErrDamaged)
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Connect opens more connections to the database at path, which exists.
func (c Cache) Connect(path string, connections int) (*sql.DB, error) {
	return c.connect(path, "rw", connections)
}

func (c Cache) connect(path, mode string, connections int) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// synchronous(NORMAL) does not fsync each commit, and keeps their order.
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: url.Values{
		"mode":    {mode},
		"_pragma": append([]string{"journal_mode(WAL)", "synchronous(NORMAL)"}, c.Pragmas...),
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	return db, nil
}

func isDamage(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code := e.Code() & 0xff // without the extended part
		return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
	}
	return errors.Is(err, ErrDamaged)
}
