package witness

import (
	"bytes"
	"testing"

	"github.com/colophon-build/colophon/tlog"
)

func FuzzRequest(f *testing.F) {
	good := Request{Old: 7, Proof: []tlog.Hash{{1}, {2}}, Checkpoint: []byte("log.example.com\n9\nAAAA\n\n— log.example.com AAAA\n")}.Marshal()
	if _, err := ParseRequest(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("old 7"), []byte("old 07"), 1))
	f.Add(bytes.Replace(good, []byte("old 7"), []byte("old -7"), 1))
	f.Add(bytes.Replace(good, []byte("\n\n"), []byte("\n"), 2))
	f.Add(append([]byte("old 0\n"), bytes.Repeat([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 64)...))
	f.Add(make([]byte, MaxRequest+1))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := ParseRequest(body); err == nil && !bytes.Equal(r.Marshal(), body) {
			t.Errorf("got %q back for %q", r.Marshal(), body)
		}
	})
}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]bool{
		"https://w.example": true, "https://w.example/prefix": true, "http://127.0.0.1:80": true, "http://localhost": true,
		"": false, "w.example": false, "http://w.example": false, "file:///w": false, "https://u:p@w.example": false, "https://w.example?a": false, "https://w.example#a": false,
	} {
		if err := CheckURL(url); (err == nil) != want {
			t.Errorf("%q: got %v", url, err)
		}
	}
}
