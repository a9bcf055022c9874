package verify

import (
	"strings"
	"testing"
)

func TestContradictions(t *testing.T) {
	const src, commit = "https://git.example.com/team/app", "cccccccccccccccccccccccccccccccccccccccc"
	for name, tt := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":             {nil, ""},
		"the same":         {map[string]string{"org.opencontainers.image.source": src + ".git", "org.opencontainers.image.revision": commit}, ""},
		"others":           {map[string]string{"org.opencontainers.image.version": "x"}, ""},
		"another commit":   {map[string]string{"org.opencontainers.image.revision": "dddd\x1b[2J"}, `; its annotation org.opencontainers.image.revision says "dddd\x1b[2J", but the proof says ` + commit},
		"another source":   {map[string]string{"org.opencontainers.image.source": "https://evil.example/app"}, `; its annotation org.opencontainers.image.source says "https://evil.example/app", but the proof says ` + src},
		"no source at all": {map[string]string{"org.opencontainers.image.source": "::"}, `; its annotation org.opencontainers.image.source says "::", but the proof says ` + src},
	} {
		if got := contradicted(tt.annotations, src, commit); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	long := contradicted(map[string]string{"org.opencontainers.image.revision": strings.Repeat("x", 1<<20)}, src, commit)
	if len(long) > 1000 {
		t.Errorf("got %d bytes", len(long))
	}
}
