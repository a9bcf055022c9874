package audit

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/colophon-build/colophon/internal/cachedb"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

// index says which entries are about what. It is a cache of the first size entries, filled from the
// tiles, the openings and the IDs of what retention deleted. follow alone changes it; anybody may ask.
type index struct {
	gone func(tile int64) ([][]byte, error) // the IDs of a bundle that retention deleted

	db   *sql.DB // writes
	read *sql.DB
	find *sql.Stmt
	tiles.Covered
}

var indexCache = cachedb.Cache{
	Name: "the index of the audit ledger",
	Schema: `
CREATE TABLE record (
	entry INTEGER PRIMARY KEY, id BLOB NOT NULL, time INTEGER NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, outcome TEXT NOT NULL, effect TEXT NOT NULL,
	cluster TEXT NOT NULL, namespace TEXT NOT NULL, image TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, commit_id TEXT NOT NULL, source TEXT NOT NULL, builder TEXT NOT NULL,
	policy TEXT NOT NULL, trust TEXT NOT NULL, distrust TEXT NOT NULL, former TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX by_id ON record (id);
CREATE INDEX by_time ON record (time);
CREATE INDEX by_cluster ON record (cluster, time) WHERE cluster <> '';
CREATE INDEX by_digest ON record (digest) WHERE digest <> '';
CREATE INDEX by_commit ON record (commit_id) WHERE commit_id <> '';
CREATE INDEX by_repository ON record (repository) WHERE repository <> '';
CREATE INDEX by_act ON record (kind) WHERE effect = '';
CREATE TABLE rule (policy TEXT NOT NULL, outcome TEXT NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (policy, outcome, entry)) STRICT, WITHOUT ROWID;
CREATE INDEX by_entry ON rule (entry);
CREATE TABLE run (run TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE gone (id BLOB PRIMARY KEY, entry INTEGER NOT NULL) STRICT, WITHOUT ROWID;
` + tiles.CoveredSchema,
	Version: 3,
	// secure_delete: what is erased is overwritten.
	Pragmas: []string{"secure_delete(ON)", "busy_timeout(5000)", "cache_size(-65536)"},
}

// openIndex opens the index at path. If it is missing or damaged, it is made again.
func openIndex(path string, gone func(tile int64) ([][]byte, error), log *slog.Logger) (_ *index, err error) {
	x := &index{gone: gone}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	x.db, err = indexCache.Open(path, log, x.Load)
	if err != nil {
		return nil, err
	}
	if x.read, err = indexCache.Connect(path, 4); err != nil {
		return nil, err
	}
	x.find, err = x.read.Prepare("SELECT entry FROM record WHERE id = ?1 UNION ALL SELECT entry FROM gone WHERE id = ?1 LIMIT 1")
	return x, err
}

func (x *index) close() error {
	var errs []error
	if x.find != nil {
		errs = append(errs, x.find.Close())
	}
	for _, db := range []*sql.DB{x.read, x.db} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// lookup returns the entry with an ID, also if retention deleted it.
func (x *index) lookup(id []byte) (entry int64, found bool, err error) {
	err = x.find.QueryRow(id).Scan(&entry)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return entry, err == nil, err
}

// anyRun is the row of the runs of which only the IDs of their records are known: each number may be theirs.
const anyRun = ""

// last returns the largest number that a record of a run can have; 0 if there is none. Writers choose the
// names of their runs: two may have one name, and then it is the largest number of both.
func (x *index) last(run string) (number int64, err error) {
	err = x.read.QueryRow("SELECT coalesce(max(last), 0) FROM run WHERE run IN (?, ?)", run, anyRun).Scan(&number)
	return number, err
}

// ofKind returns the entries of a kind of act, in order.
func (x *index) ofKind(ctx context.Context, kind records.Kind) ([]int64, error) {
	return x.ask(ctx, "SELECT entry FROM record WHERE effect = '' AND kind = ? ORDER BY entry", string(kind))
}

func (x *index) ask(ctx context.Context, query string, args ...any) (entries []int64, err error) {
	rows, err := x.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		entries = append(entries, n)
	}
	return entries, rows.Err()
}

// extend adds the entries under cp that the index does not have.
func (x *index) extend(ctx context.Context, src files.Source, cp tlog.Checkpoint) error {
	err := x.Extend(cp, func(size int64) error { return x.add(ctx, src, cp, size) })
	if err != nil {
		return fmt.Errorf("index of the audit ledger, %w", err)
	}
	return nil
}

// add adds the entries up to size, from the tiles, in one transaction.
func (x *index) add(ctx context.Context, src files.Source, cp tlog.Checkpoint, size int64) error {
	root, err := tlog.Root(ctx, src, size, cp)
	if err != nil {
		return err
	}
	return x.commit(ctx, size, root, func(to *filling) error {
		for tile := x.Size / tlog.TileWidth; tile*tlog.TileWidth < size; tile++ {
			err := files.Bundle(ctx, src, cp, tile, func(e files.Entry) error {
				if e.Index < x.Size || e.Index >= size {
					return nil
				}
				return to.record(e.Index, e.Leaf.ID(), e.Opened)
			})
			if errors.Is(err, files.ErrGone) {
				err = to.gone(tile, x.gone)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// append adds the last entries under cp.
func (x *index) append(ctx context.Context, batch []entry, cp tlog.Checkpoint) error {
	return x.commit(ctx, cp.Size, cp.Root, func(to *filling) error {
		for i, e := range batch {
			opened, err := e.record.Open(e.openings)
			if err == nil {
				err = to.record(x.Size+int64(i), e.id, opened)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// commit adds what fill adds, in one transaction: then the index has size entries.
func (x *index) commit(ctx context.Context, size int64, root tlog.Hash, fill func(*filling) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	to := &filling{runs: map[string]int64{}}
	for stmt, query := range map[**sql.Stmt]string{
		&to.insert: "INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		&to.rule:   "INSERT OR IGNORE INTO rule VALUES (?, ?, ?)",
		&to.id:     "INSERT OR IGNORE INTO gone VALUES (?, ?)",
	} {
		if *stmt, err = tx.Prepare(query); err != nil {
			return err
		}
	}
	if err := fill(to); err != nil {
		return err
	}
	for run, last := range to.runs {
		if _, err := tx.Exec("INSERT INTO run VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET last = max(last, excluded.last)", run, last); err != nil {
			return err
		}
	}
	return x.Commit(tx, size, root)
}

// filling is a transaction that adds entries.
type filling struct {
	insert, rule, id *sql.Stmt
	runs             map[string]int64 // the largest numbers
}

// record adds an entry.
func (f *filling) record(at int64, id string, r *records.Record) error {
	f.runs[r.By.Run] = max(f.runs[r.By.Run], r.By.Number)
	_, err := f.insert.Exec(at, sum(id), r.Time.UnixNano(), string(r.Kind), r.By.Role, r.Outcome, r.Effect,
		r.Where.Cluster, r.Where.Namespace.Value, r.About.Image.Value, records.Untagged(r.About.Image.Value), r.About.Digest, r.About.Commit, r.About.Source, r.About.Builder,
		r.Basis.Policy, r.Basis.Trust, r.Basis.Distrust, r.Basis.Before)
	if err != nil {
		return err
	}
	for _, x := range r.Rules {
		if _, err := f.rule.Exec(x.Policy, x.Outcome, at); err != nil {
			return err
		}
	}
	return nil
}

// gone adds the IDs of a bundle that retention deleted.
func (f *filling) gone(tile int64, of func(tile int64) ([][]byte, error)) error {
	ids, err := of(tile)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if _, err := f.id.Exec(id, tile*tlog.TileWidth+int64(i)); err != nil {
			return err
		}
	}
	f.runs[anyRun] = math.MaxInt64
	return nil
}

// forget takes away what was opened of erased entries, whose openings are gone from src. What their
// records say openly stays.
func (x *index) forget(ctx context.Context, src files.Source, cp tlog.Checkpoint, ranges []records.Range) error {
	for _, r := range ranges {
		if err := x.forgetRange(ctx, src, cp, r); err != nil {
			return err
		}
	}
	return x.flush(ctx)
}

func (x *index) forgetRange(ctx context.Context, src files.Source, cp tlog.Checkpoint, r records.Range) error {
	const set = "UPDATE record SET namespace = ?, image = ?, repository = ? WHERE entry >= ? AND entry < ?"
	if _, err := x.db.ExecContext(ctx, set, "", "", "", r.From, r.To); err != nil {
		return err
	}
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for tile := r.From / tlog.TileWidth; tile*tlog.TileWidth < min(r.To, cp.Size); tile++ {
		err := files.Bundle(ctx, src, cp, tile, func(e files.Entry) error {
			if e.Index < r.From || e.Index >= r.To {
				return nil
			}
			image := e.Opened.About.Image.Value
			_, err := tx.ExecContext(ctx, set, e.Opened.Where.Namespace.Value, image, records.Untagged(image), e.Index, e.Index+1)
			return err
		})
		if err != nil && !errors.Is(err, files.ErrGone) {
			return err
		}
	}
	return tx.Commit()
}

// flush empties the write-ahead log, which has what the database no longer has. It fails while somebody
// reads an older state of the database.
func (x *index) flush(ctx context.Context) error {
	var busy, frames, moved int
	if err := x.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("%w: the index still has what was taken away, because somebody reads it", ErrBusy)
	}
	return nil
}

// drop takes away what is known about entries that are no longer there, but for their IDs.
func (x *index) drop(ctx context.Context, from, to int64) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO gone SELECT id, entry FROM record WHERE entry >= ? AND entry < ?", from, to); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM rule WHERE entry >= ? AND entry < ?", from, to); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM record WHERE entry >= ? AND entry < ?", from, to); err != nil {
		return err
	}
	return tx.Commit()
}

// query returns the newest entries that f asks for, at most limit of them, all before the entry before.
func (x *index) query(ctx context.Context, f records.Filter, before int64, limit int) ([]int64, error) {
	where, args := []string{"entry < ?"}, []any{before}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	for column, value := range map[string]string{"role": f.Role, "cluster": f.Cluster, "namespace": f.Namespace, "effect": f.Effect, "digest": f.Digest, "commit_id": f.Commit, "source": f.Source, "builder": f.Builder} {
		if value != "" {
			add(column+" = ?", value)
			if column == "cluster" || column == "digest" || column == "commit_id" {
				add(column + " <> ''") // so that the partial index can be used
			}
		}
	}
	if len(f.Kinds) > 0 {
		var kinds []any
		for _, k := range f.Kinds {
			kinds = append(kinds, string(k))
		}
		add("kind IN (?"+strings.Repeat(", ?", len(kinds)-1)+")", kinds...)
	}
	if f.Image != "" {
		add("repository = ? AND repository <> ''", records.Untagged(f.Image))
		if f.Image != records.Untagged(f.Image) {
			add("image = ?", f.Image)
		}
	}
	if f.Basis != "" {
		add("(policy = ? OR trust = ? OR distrust = ? OR former = ?)", f.Basis, f.Basis, f.Basis, f.Basis)
	}
	if !f.From.IsZero() {
		add("time >= ?", f.From.UnixNano())
	}
	if !f.To.IsZero() {
		add("time < ?", f.To.UnixNano())
	}
	switch {
	case f.Policy == "" || strings.HasPrefix(f.Policy, "sha256:"):
		if f.Policy != "" {
			add("policy = ?", f.Policy)
		}
		if f.Outcome != "" {
			add("outcome = ?", f.Outcome)
		}
	case f.Outcome != "":
		add("EXISTS (SELECT 1 FROM rule WHERE rule.policy = ? AND rule.outcome = ? AND rule.entry = record.entry)", f.Policy, f.Outcome)
	default:
		add("EXISTS (SELECT 1 FROM rule WHERE rule.policy = ? AND rule.outcome IN ('accepted', 'rejected', 'undecided') AND rule.entry = record.entry)", f.Policy)
	}
	args = append(args, limit)
	return x.ask(ctx, "SELECT entry FROM record WHERE "+strings.Join(where, " AND ")+" ORDER BY entry DESC LIMIT ?", args...)
}

// prefix returns the entry whose ID starts with these hex digits, if there is only one.
func (x *index) prefix(ctx context.Context, digits string) ([]int64, error) {
	low, err := hex.DecodeString(digits + strings.Repeat("0", 64-len(digits)))
	if err != nil {
		return nil, err
	}
	high, err := hex.DecodeString(digits + strings.Repeat("f", 64-len(digits)))
	if err != nil {
		return nil, err
	}
	return x.ask(ctx, "SELECT entry FROM record WHERE id BETWEEN ? AND ? LIMIT 2", low, high)
}
