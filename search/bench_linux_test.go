package search

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// generated is a log whose entries are made when they are read: hashedrekords of 200
// repositories, of about 1.5 KB.
type generated struct {
	size   int64
	signed []byte
	parts  [][2]string // of an entry, before and after its digest
}

func newGenerated(t testing.TB, size int64) *generated {
	g := &generated{size: size}
	for i := range 200 {
		repo := fmt.Sprintf("https://github.com/team/app-%d", i)
		cert := certificate(t, repo+"/build@refs/heads/main", map[int]string{1: "https://token.example", 8: "https://token.example", 12: repo, 13: fmt.Sprintf("%040x", i), 14: "refs/heads/main"})
		digest := make([]byte, 32)
		before, after, _ := strings.Cut(string(record(digest, "x509Certificate", cert)), base64.StdEncoding.EncodeToString(digest))
		g.parts = append(g.parts, [2]string{before, after})
	}
	return g
}

func (g *generated) entry(i int64) []byte {
	digest := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	p := g.parts[i%200]
	return []byte(p[0] + base64.StdEncoding.EncodeToString(digest[:]) + p[1])
}

func (g *generated) Checkpoint(context.Context) ([]byte, error) { return g.signed, nil }

func (g *generated) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	var b bytes.Buffer
	for i := range int64(t.Width) {
		e := g.entry(t.Index*tlog.TileWidth + i)
		b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(e))))
		b.Write(e)
	}
	return b.Bytes(), nil
}

// BenchmarkAudit audits a log of 10⁶ entries (ENTRIES in the environment: another number), with a
// root for each 1,000 of them. Times are those of the CPU, both cores together.
func BenchmarkAudit(b *testing.B) {
	entries, step := int64(1_000_000), int64(1000)
	if n, err := strconv.ParseInt(os.Getenv("ENTRIES"), 10, 64); err == nil {
		entries = n
	}
	g := newGenerated(b, entries)
	index := newShelf(IndexOrigin(origin))
	tree := ranges.NewEmptyRange(0)
	m := prefix.Map{}
	began := cpu(b)
	for from := int64(0); from < entries; from += step {
		var list [][]byte
		for i := from; i < min(from+step, entries); i++ {
			e := g.entry(i)
			list = append(list, e)
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
				b.Fatal(err)
			}
		}
		var err error
		if m, err = Extend(m, from, list); err != nil {
			b.Fatal(err)
		}
		root, err := tree.GetRootHash(nil)
		if err != nil {
			b.Fatal(err)
		}
		cp := tlog.Checkpoint{Origin: origin, Size: int64(tree.End()), Root: tlog.Hash(root)}
		if g.signed, err = note.Sign(&note.Note{Text: cp.String()}, signerOf(origin)); err != nil {
			b.Fatal(err)
		}
		index.entries = append(index.entries, Leaf{m.Root(), m.Len(), string(g.signed)}.Bytes())
	}
	b.ReportMetric(float64(entries)/(cpu(b)-began).Seconds(), "built/CPU-s")
	for b.Loop() {
		began, wall := cpu(b), time.Now()
		if _, err := Audit(b.Context(), g, verifierOf(origin), index, verifierOf(IndexOrigin(origin)), nil); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu(b) - began).Seconds(), "audit-CPU-s")
		b.ReportMetric(time.Since(wall).Seconds(), "audit-s")
	}
}

// BenchmarkKeysOf derives the keys of one entry.
func BenchmarkKeysOf(b *testing.B) {
	e := newGenerated(b, 1).entry(0)
	for b.Loop() {
		if len(KeysOf(e)) != 6 {
			b.Fatal("keys")
		}
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
