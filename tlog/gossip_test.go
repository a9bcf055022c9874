package tlog_test

import (
	"errors"
	"testing"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

func TestCompare(t *testing.T) {
	l := logtest.New("log.example.com", 600)
	fork := l.Fork(280, 600)
	sources := func(all ...tlog.Source) []tlog.Source { return all }
	for name, test := range map[string]struct {
		shown   []tlog.Checkpoint
		sources []tlog.Source
		split   bool
		err     error
	}{
		"nothing":                              {nil, nil, false, nil},
		"one":                                  {[]tlog.Checkpoint{l.At(5)}, nil, false, nil},
		"the same twice":                       {[]tlog.Checkpoint{l.At(5), l.At(5)}, nil, false, nil},
		"one history":                          {[]tlog.Checkpoint{l.At(600), l.At(5), l.At(0), l.At(300), l.At(256)}, sources(l), false, nil},
		"before the fork":                      {[]tlog.Checkpoint{l.At(280), fork.At(600)}, sources(fork), false, nil},
		"one size, no tiles":                   {[]tlog.Checkpoint{l.At(300), fork.At(300)}, nil, true, nil},
		"older of the one, newer of the other": {[]tlog.Checkpoint{l.At(300), fork.At(400)}, sources(fork), true, nil},
		"tiles of the wrong history":           {[]tlog.Checkpoint{l.At(300), fork.At(400)}, sources(l), false, tlog.ErrUndecided},
		"any source has the tiles":             {[]tlog.Checkpoint{l.At(300), fork.At(400)}, sources(l, fork), true, nil},
		"tiles of a third only":                {[]tlog.Checkpoint{l.At(300), fork.At(400), l.At(500)}, sources(l), true, nil},
		"no tiles":                             {[]tlog.Checkpoint{l.At(300), l.At(400)}, nil, false, tlog.ErrUndecided},
	} {
		split, err := tlog.Compare(t.Context(), test.shown, test.sources)
		if (split != nil) != test.split || !errors.Is(err, test.err) || test.err == nil && err != nil {
			t.Errorf("%s: got %+v, %v", name, split, err)
		}
		if split != nil {
			if err := split.Verify(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestFalseEvidence: nobody can make a split view of an honest log's checkpoints.
func TestFalseEvidence(t *testing.T) {
	l := logtest.New("log.example.com", 20)
	proof, err := tlog.Consistency(t.Context(), l, 10, l.At(20))
	if err != nil {
		t.Fatal(err)
	}
	other := logtest.New("other.example.com", 20)
	for name, s := range map[string]tlog.SplitView{
		"of one history":      {Older: l.At(10), Newer: l.At(20), Prefix: l.At(10).Root, Proof: proof},
		"with a made-up root": {Older: l.At(10), Newer: l.At(20), Prefix: tlog.Hash{1}, Proof: proof},
		"without a proof":     {Older: l.At(10), Newer: l.At(20), Prefix: tlog.Hash{1}},
		"of two logs":         {Older: l.At(20), Newer: other.At(20), Prefix: other.At(20).Root},
		"of the same size":    {Older: l.At(20), Newer: l.At(20), Prefix: tlog.Hash{1}},
		"of an empty log":     {Older: l.At(0), Newer: l.At(20), Prefix: tlog.Hash{1}},
		"the other way round": {Older: l.At(20), Newer: l.At(10), Prefix: tlog.Hash{1}, Proof: proof},
	} {
		if err := s.Verify(); err == nil {
			t.Errorf("%s: it counts", name)
		}
	}
}
