package search

// This file verifies answers about an archive a second time. verifyArchiveSecond was written from
// spec/archive/v1 and spec/search/v1 alone, and shares no code with the package that it checks.

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// archiveSecond is what the second implementation finds in an answer.
type archiveSecond struct {
	matches      []Match
	next         []byte
	total        int64
	indexed, all int64
}

var recordSecond = regexp.MustCompile(`^colophon archive v1\n([1-9][0-9]*)\n[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\n[a-z0-9-]{1,64}\nsha256:[0-9a-f]{64}\n(?:0|[1-9][0-9]*)\n(?:-|[0-9a-f]{64})\n(?:0|[1-9][0-9]*)\n(?:-|[A-Za-z0-9]+:[0-9a-f]+)\n(?:-|[0-9a-f]{64})\n$`)

func verifyArchiveSecond(raw []byte, kind, value string, isPrefix bool, from []byte, origin string, key ed25519.PublicKey) (found archiveSecond, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err = p
		default:
			panic(p)
		}
	}()
	var a struct {
		secondAnswer
		Next []byte
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return found, err
	}
	must(a.To == nil, "to")
	indexSize, indexRoot := openNote(a.IndexCheckpoint, origin+"/archive/index", key)
	must(a.Index == indexSize-1, "not the last entry of the index log")
	must(bytes.Equal(included(hash(0, a.Leaf), a.Index, indexSize, a.InIndex), indexRoot), "the leaf is not in the index log")
	parts := strings.SplitN(string(a.Leaf), "\n", 5)
	must(len(parts) == 5 && parts[0] == "colophon search index v1" && parts[3] == "", "leaf")
	root, err := base64.StdEncoding.Strict().DecodeString(parts[1])
	must(err == nil && len(root) == 32, "root in the leaf")
	size, logRoot := openNote(parts[4], origin+"/archive", key)
	all, newest := openNote(a.Checkpoint, origin+"/archive", key)
	consistent(size, logRoot, all, newest, a.Extends)

	if !isPrefix {
		if cut, _, has := strings.Cut(value, "\x00"); has || len(value) > 400 {
			sum := sha256.Sum256([]byte(value))
			value = cut[:min(len(cut), 400)] + "sha256:" + hex.EncodeToString(sum[:])
		}
		value += "\x00"
	}
	span := []byte(kind + "\x00" + value)
	p := &secondProof{rest: a.Proof, prefix: span, lo: slices.Concat(span, from)}
	if a.Next != nil {
		must(bytes.Compare(a.Next, from) > 0, "next")
		p.hi = slices.Concat(span, a.Next)
	}
	if len(a.Proof) == 0 {
		must(bytes.Equal(root, emptyHash()), "no proof")
	} else {
		got, _ := p.tree("", false)
		must(bytes.Equal(got, root), "root of the map")
		must(len(p.rest) == 0, "bytes left over")
	}
	records := map[int64]bool{}
	for _, e := range a.Entries {
		must(bytes.Equal(included(hash(0, e.Body), e.Index, size, e.InLog), logRoot), "a record is not in the log")
		form := recordSecond.FindStringSubmatch(string(e.Body))
		must(form != nil && form[1] == strconv.FormatInt(e.Index+1, 10), "form of a record")
		must(!records[e.Index], "a record twice")
		records[e.Index] = true
	}
	shown := map[int64]bool{}
	for _, k := range p.found {
		text, rest, ok := bytes.Cut(k[len(kind)+1:], []byte{0})
		must(ok && len(rest) == 8, "key")
		m := Match{string(text), int64(binary.BigEndian.Uint64(rest))}
		must(records[m.Index], "the proof shows a record that is not there")
		shown[m.Index] = true
		found.matches = append(found.matches, m)
	}
	must(len(shown) == len(records), "a record that the proof does not show")
	found.next, found.total, found.indexed, found.all = a.Next, p.total, size, all
	return found, nil
}

// archiveWorld is the log of an archive of 40 statements and its index log; the last three are not indexed.
func archiveWorld(t *testing.T) *world {
	t.Helper()
	origin := ArchiveOrigin(origin)
	contents := [][]byte{}
	w := &world{log: newShelf(origin), index: newShelf(IndexOrigin(origin)), keysOf: func(i int, entry []byte) []Key {
		r, err := ParseRecord(entry)
		if err != nil {
			t.Fatal(err)
		}
		return ArchiveKeys(r, contents[i])
	}}
	for i := range 40 {
		content := fmt.Appendf(nil, `{"predicateType":"https://cyclonedx.org/bom","predicate":{"bomFormat":"CycloneDX","components":[{"name":"lib","version":"%d"},{"name":"lib-%d","version":"1"},{"name":"all","version":"1"},{"name":%q}]}}`,
			i/5, i, strings.Repeat("y", 390+i))
		if i == 17 {
			content = []byte("no statement")
		}
		sum := sha256.Sum256(content)
		r := Record{Number: int64(i) + 1, Since: time.Unix(int64(i), 0).UTC(), Form: "statement", Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(content))}
		contents, w.log.entries = append(contents, content), append(w.log.entries, r.Bytes())
	}
	for _, size := range []int{1, 7, 8, 37} {
		w.commit(t, size)
	}
	return w
}

// TestArchiveSecond: both implementations read the same in each answer, and what one refuses the other does.
func TestArchiveSecond(t *testing.T) {
	w := archiveWorld(t)
	public := signing.Public().(ed25519.PublicKey)
	r := rand.New(rand.NewPCG(1, 2))
	newest, signed := w.log.at(len(w.log.entries))
	logKey, indexKey := verifierOf(ArchiveOrigin(origin)), verifierOf(IndexOrigin(ArchiveOrigin(origin)))
	both := func(raw []byte, q ArchiveQuestion) (v *ArchiveVerified, first, second error) {
		a, err := ParseArchiveAnswer(raw)
		if err == nil {
			v, err = a.Verify(q, logKey, indexKey)
		}
		s, second := verifyArchiveSecond(raw, string(q.Kind), q.Value, q.Prefix, q.From, origin, public)
		if err == nil && second == nil && (!slices.Equal(v.Matches, s.matches) || !bytes.Equal(v.Next, s.next) || v.Total != s.total || v.Indexed.Size != s.indexed || v.Newest.Size != s.all) {
			t.Errorf("%v: got %+v, the second implementation %+v", q, v, s)
		}
		return v, err, second
	}
	pages := 0
	for _, q := range []ArchiveQuestion{
		{Kind: Package, Value: "all@1"}, {Kind: Package, Value: "lib", Prefix: true}, {Kind: Package, Value: "lib@3"}, {Kind: Package, Value: "lib-", Prefix: true}, {Kind: Package, Value: "absent"},
		{Kind: Package, Value: strings.Repeat("y", 420) + "@"}, {Kind: Package, Value: strings.Repeat("y", 400), Prefix: true}, {Kind: Unparsed}, {Kind: Digest, Value: "", Prefix: true},
	} {
		seen := int64(0)
		for {
			a, err := w.state(t).AnswerArchive(t.Context(), q, 4, w.log, w.index, newest, signed)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			v, first, second := both(raw, q)
			if err := errors.Join(first, second); err != nil {
				t.Fatalf("%v: %v", q, err)
			}
			for range 40 { // the first is stricter about JSON; what it takes, the second does
				changed := bytes.Clone(raw)
				changed[r.IntN(len(changed))] ^= 1 << r.IntN(7)
				if _, first, second := both(changed, q); first == nil && second != nil {
					t.Errorf("%v: the second implementation refuses a changed answer: %v", q, second)
				}
			}
			other := q
			other.Kind = Name
			if _, first, second := both(raw, other); len(v.Matches) > 0 && (first == nil || second == nil) {
				t.Errorf("%v: the answer to another question was taken: %v, %v", q, first, second)
			}
			seen, pages = seen+int64(len(v.Matches)), pages+1
			if v.Next == nil {
				if seen != v.Total {
					t.Errorf("%v: %d of %d matches", q, seen, v.Total)
				}
				break
			}
			q.From = v.Next
		}
	}
	if pages < 30 {
		t.Errorf("only %d pages", pages)
	}
}
