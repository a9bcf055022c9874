package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/logtest"
)

func TestWitnessSettings(t *testing.T) {
	key := logtest.Cosigner(t, "w.example/w").Key.String()
	file := func(policy string) string {
		path := filepath.Join(t.TempDir(), "witnesses")
		if err := os.WriteFile(path, []byte(policy), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("witness w " + key + " https://w.example\nquorum w\n")
	if s, err := (logConfig{Witnesses: good}).settings(); err != nil || s.Wait != 50*time.Millisecond || s.Required {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := (logConfig{Witnesses: good, Wait: "0s", Required: true}).settings(); err != nil || s.Wait != 0 || !s.Required {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := (logConfig{}).settings(); err != nil || s.Policy != "" {
		t.Errorf("without witnesses: got %+v, %v", s, err)
	}
	for name, c := range map[string]logConfig{
		"no file":            {Witnesses: good + "x"},
		"no policy":          {Witnesses: file("hello\n")},
		"no witness":         {Witnesses: file("quorum none\n")},
		"no URL":             {Witnesses: file("witness w " + key + "\nquorum w\n")},
		"plain HTTP":         {Witnesses: file("witness w " + key + " http://w.example\nquorum w\n")},
		"no duration":        {Witnesses: good, Wait: "soon"},
		"too long":           {Witnesses: good, Wait: (maxWitnessWait + 1).String()},
		"required of nobody": {Required: true},
		"required of none":   {Required: true, Witnesses: file("witness w " + key + " https://w.example\nquorum none\n")},
	} {
		if s, err := c.settings(); err == nil {
			t.Errorf("%s: got %+v, want an error", name, s)
		}
	}
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(`{"log": {"witnesses": "/nowhere"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(config); err == nil || !strings.Contains(err.Error(), "log: witnesses") {
		t.Errorf("got %v", err)
	}
}
