package attest

import (
	"testing"

	"github.com/containerd/platforms"
)

// Every spelling of a platform becomes the one that containerd and BuildKit write.
func TestNormalPlatform(t *testing.T) {
	for name, want := range map[string]string{
		"linux/arm": "linux/arm/v7", "linux/armhf": "linux/arm/v7", "linux/armel": "linux/arm/v6", "linux/aarch64": "linux/arm64", "linux/arm64/v8": "linux/arm64",
		"linux/x86_64": "linux/amd64", "linux/amd64/v1": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "linux/i386": "linux/386", "Linux/AMD64": "linux/amd64", "macOS/arm64": "darwin/arm64",
		"": "", "linux": "", "/": "", "linux/": "", "/amd64": "", "linux/amd64:10": "", "linux/amd64/v1/x": "",
	} {
		if got, err := NormalPlatform(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
	for _, arch := range []string{"386", "i386", "amd64", "x86_64", "x86-64", "X86_64", "arm", "armhf", "armel", "arm64", "aarch64", "ppc64le", "riscv64", "s390x", "mips64le", "loong64", "wasm"} {
		for _, variant := range []string{"", "v1", "v2", "v3", "5", "v5", "6", "v6", "7", "v7", "8", "v8", "v8.0", "8.0", "9", "9.0", "v9", "v9.0", "V8"} {
			name := "linux/" + arch
			if variant != "" {
				name += "/" + variant
			}
			theirs, err := platforms.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			want := platforms.Format(platforms.Normalize(theirs))
			got, err := NormalPlatform(name)
			if again, _ := NormalPlatform(got); got != want || err != nil || again != got {
				t.Errorf("%s: got %q (again %q), %v, containerd says %q", name, got, again, err, want)
			}
		}
	}
}
