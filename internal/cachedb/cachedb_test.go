package cachedb

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var numbers = Cache{
	Name:    "the cache of numbers",
	Schema:  "CREATE TABLE number (n INTEGER NOT NULL) STRICT; INSERT INTO number VALUES (0);",
	Version: 3,
}

// open opens the cache of numbers, and returns its number and what the operator is told.
func open(path string) (n int, said string, err error) {
	var log bytes.Buffer
	db, err := numbers.Open(path, slog.New(slog.NewTextHandler(&log, nil)), func(db *sql.DB) error {
		return db.QueryRow("SELECT n FROM number").Scan(&n)
	})
	if err == nil {
		err = db.Close()
	}
	return n, log.String(), err
}

func change(t *testing.T, path, statement string) {
	t.Helper()
	db, err := numbers.Connect(path, 1)
	if err == nil {
		_, err = db.Exec(statement)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDamage: a cache is made again if it is damaged, and the operator is told.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string) error{
		"other content": func(_ *testing.T, path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("no database", 1000)), 0o600)
		},
		"empty": func(_ *testing.T, path string) error { return os.Truncate(path, 0) },
		"half":  func(_ *testing.T, path string) error { return os.Truncate(path, 4096) },
		"older": func(t *testing.T, path string) error { change(t, path, "PRAGMA user_version = 2"); return nil },
		"newer": func(t *testing.T, path string) error { change(t, path, "PRAGMA user_version = 4"); return nil },
		"says nothing": func(t *testing.T, path string) error {
			change(t, path, "DELETE FROM number")
			return nil
		},
		"a write-ahead log of another database": func(t *testing.T, path string) error {
			return errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.WriteFile(path+"-wal", []byte("y"), 0o600), os.WriteFile(path+"-shm", []byte("z"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a b?c#%d.db") // characters that mean something in a URL
			if n, said, err := open(path); n != 0 || said != "" || err != nil {
				t.Fatalf("first start: got %d, %q, %v", n, said, err)
			}
			change(t, path, "UPDATE number SET n = 7")
			if n, said, err := open(path); n != 7 || said != "" || err != nil {
				t.Fatalf("second start: got %d, %q, %v, want 7", n, said, err)
			}
			if err := damage(t, path); err != nil {
				t.Fatal(err)
			}
			if n, said, err := open(path); n != 0 || !strings.Contains(said, "the cache of numbers is damaged") || err != nil {
				t.Fatalf("after the damage: got %d, %q, %v, want a new one", n, said, err)
			}
			if n, said, err := open(path); n != 0 || said != "" || err != nil {
				t.Fatalf("a later start: got %d, %q, %v", n, said, err)
			}
		})
	}
}

// TestOtherErrorsKeepIt: an error that is no damage changes nothing.
func TestOtherErrorsKeepIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "numbers.db")
	if _, _, err := open(path); err != nil {
		t.Fatal(err)
	}
	change(t, path, "UPDATE number SET n = 7")
	want := errors.New("the disk is full")
	if _, err := numbers.Open(path, slog.Default(), func(*sql.DB) error { return fmt.Errorf("load: %w", want) }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if n, _, err := open(path); n != 7 || err != nil {
		t.Errorf("got %d, %v, want the number that was there", n, err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, said, err := open(path); err == nil || said != "" {
		t.Errorf("a directory in its place: got %q, %v, want an error alone", said, err)
	}
}
