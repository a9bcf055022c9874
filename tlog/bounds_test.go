package tlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// TestBounds: sizes and indexes just within the tree, and just outside of it.
func TestBounds(t *testing.T) {
	ctx, m := context.Background(), newMemory(300)
	cp := m.at(300)
	says := func(what string, err error, want string) {
		t.Helper()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", what, err, want)
		}
	}
	for index, want := range map[int64]string{0: "", 299: "", 300: "does not exist", -1: "does not exist"} {
		_, err := Inclusion(ctx, m, cp, index)
		says("inclusion", err, want)
	}
	for size, want := range map[int64]string{0: "", 1: "", 300: "", 301: "want 0 to 300", -1: "want 0 to 300"} {
		_, err := Consistency(ctx, m, size, cp)
		says("consistency", err, want)
		_, err = Root(ctx, m, size, cp)
		says("root", err, want)
	}
	for r, want := range map[[2]int64]string{{0, 0}: "", {300, 300}: "", {0, 256}: "", {44, 300}: "", {0, 257}: "cannot read", {-1, 0}: "cannot read", {2, 1}: "cannot read", {299, 301}: "cannot read"} {
		_, err := Leaves(ctx, m, cp, r[0], r[1])
		says("leaves", err, want)
	}
	says("extends itself", Extends(ctx, m, cp, cp), "")
	says("extends less", Extends(ctx, m, m.at(299), cp), "")
	if err := Extends(ctx, m, cp, m.at(299)); err == nil {
		t.Error("a smaller tree extends a larger one")
	}
}

// TestCheckpointBounds: the largest checkpoint, and the characters next to those that
// are refused.
func TestCheckpointBounds(t *testing.T) {
	text := newMemory(1).at(1).String()
	longest := text + strings.Repeat("x", MaxCheckpoint-len(text)-1) + "\n"
	for what, tt := range map[string]struct {
		text, want string
	}{
		"as it is": {text, ""}, "the longest": {longest, ""}, "longer": {"x" + longest, "want at most"},
		"a control character first": {"\x1f" + text, "control character"}, "a line of it": {"\n" + text, "line 1 is empty"},
		"a space": {text + "a b\n", ""}, "a tilde": {text + "~\n", ""}, "a control character": {text + "a\x1fb\n", "control character"}, "delete": {text + "\x7f\n", "control character"},
	} {
		c, err := ParseCheckpoint(tt.text)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || err == nil && c.String() != tt.text {
			t.Errorf("%s: got %v, want %q in it", what, err, tt.want)
		}
	}
	if c, err := ParseCheckpoint(text); err != nil || c.Extensions != nil {
		t.Errorf("without extensions: got %q, %v", c.Extensions, err)
	}
	key, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(origin, private)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(text string) []byte {
		signed, err := note.Sign(&note.Note{Text: text}, s)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	room := MaxCheckpoint - len(sign(text))
	for more, want := range map[int]string{0: "", 1: "want at most"} {
		signed := sign(text + strings.Repeat("x", room+more-1) + "\n")
		if len(signed) != MaxCheckpoint+more {
			t.Fatalf("got %d bytes, want %d", len(signed), MaxCheckpoint+more)
		}
		if _, err := OpenCheckpoint(signed, v); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("signed, %d bytes: got %v, want %q", len(signed), err, want)
		}
	}
	if _, err := OpenCheckpoint(sign("hello\n"), v); err == nil || !strings.Contains(err.Error(), "want at least 3") {
		t.Errorf("another text, signed: got %v", err)
	}
}

// TestPathBounds: each way to miss the path of a tile by a little.
func TestPathBounds(t *testing.T) {
	for path, good := range map[string]bool{
		"tile/0/000": true, "tile/entries/x001/x234/067.p/8": true, "tile/0/x999/x999/x999/x999/x999/999": true, "tile/0/x001/x999/x999/x999/x999/x999/999": false,
		"tiles/0/000": false, "tile/0": false, "tile/0/1000": false, "tile/0/x1000/000": false, "tile/0/000.p/0": false, "tile/0/000.p/256": false, "tile/0/00a": false, "tile/64/000": false,
		"tile/entries/000" + strings.Repeat("0", 60): false, "xtile/0/000": false, "0/000": false, "tile//000": false, "tile/x/000": false, "/0/000": false, "tile/0/": false, "tile/0/-01": false,
	} {
		if tile, err := ParsePath(path); (err == nil) != good || err == nil && tile.Path() != path {
			t.Errorf("%s: got %+v, %v", path, tile, err)
		}
	}
}

// TestKeysOfALog: keys of another length, curve or type, and origins that a signed note
// cannot name.
func TestKeysOfALog(t *testing.T) {
	key, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LogID("log.example.com", key[:31]); err == nil || !strings.Contains(err.Error(), "31 bytes") {
		t.Errorf("a short key: got %v", err)
	}
	//lint:ignore SA1019 nothing else makes such a key
	if _, err := LogID("log.example.com", &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}); err == nil {
		t.Error("a key off its curve has an id")
	}
	if _, err := NewVerifier("log.example.com", "a key"); err == nil {
		t.Error("text verifies checkpoints")
	}
	for _, origin := range []string{"", " a", "a b", "a+b", "a\nb", "\x00b", "a\x00b", "\xff"} {
		if _, err := NewSigner(origin, private); err == nil {
			t.Errorf("origin %q can sign", origin)
		}
		if _, err := NewVerifier(origin, key); err == nil {
			t.Errorf("origin %q can be named", origin)
		}
	}
}
