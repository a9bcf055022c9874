package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHosts: admission reads where containerd pulls first, and refuses a file that it would read
// otherwise than containerd.
func TestHosts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts.toml")
	if err := os.WriteFile(file, []byte("[host.\"https://mirror.example.com\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		file: "mirror.example.com/",
		"server = \"https://registry-1.docker.io\"\n[host.\"https://b.example.com\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"https://a.example.com\"]\n": "b.example.com/",
		"[host.\"https://push.example.com\"]\ncapabilities = [\"push\"]\n[host.\"https://a.example.com:5000/v2/hub\"]\noverride_path = true\n":                    "a.example.com:5000/hub/",
		"[host.\"https://a.example.com/v2\"]\nca = \"/etc/ca.pem\"\nskip_verify = false\n":                                                                        "a.example.com/",
		"server = \"https://registry-1.docker.io\"\n": "",
		"server = \"mirror.example.com\"\n":           "mirror.example.com/",
		"":                                            "",
		"[host.\"http://127.0.0.1:5000\"]\n":          "127.0.0.1:5000/",
	} {
		got, err := Hosts{"docker.io": text}.mirrors()
		if err != nil || got["docker.io/"] != want {
			t.Errorf("%s: got %v, %v, want %q", text, got, err, want)
		}
	}
	for text, words := range map[string]string{
		"[host.\"http://mirror.example.com\"]\n":                                          "expected https",
		"[host.\"https://mirror.example.com/hub\"]\n":                                     "override_path",
		"[host.\"https://mirror.example.com/v2/hub\"]\n":                                  "override_path",
		"[host.\"https://user@mirror.example.com\"]\n":                                    "expected the URL",
		"[host.\"https://mirror.example.com\"]\n[host.\"https://m\".header]\nx = \"1\"\n": "not supported",
		"[host.\"https://mirror.example.com\"]\nrewrite = \"x\"\n":                        "not supported",
		"[host\n":                         "toml",
		"/does/not/exist":                 "no such file",
		"# " + strings.Repeat("x", 1<<20): "at most",
	} {
		if got, err := (Hosts{"docker.io": text}).mirrors(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%.80s: got %v, %v, want %q", text, got, err, words)
		}
	}
	s := Settings{Hosts: Hosts{"_default": ""}}
	if err := s.check(); err == nil {
		t.Error("a file for all registries is read")
	}
	s = Settings{Mirrors: map[string]string{"docker.io/": "a.example.com/"}, Hosts: Hosts{"docker.io": file}}
	if err := s.check(); err == nil || !strings.Contains(err.Error(), "docker.io/") {
		t.Errorf("two places for one registry: got %v", err)
	}
	s = Settings{Hosts: Hosts{"docker.io": file}}
	if err := s.check(); err != nil || s.Mirrors["docker.io/"] != "mirror.example.com/" {
		t.Errorf("got %v, %v", s.Mirrors, err)
	}
}
