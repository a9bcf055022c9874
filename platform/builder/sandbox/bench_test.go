package sandbox

import (
	"os"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

// BenchmarkRoom opens and erases a room around a program that does nothing.
func BenchmarkRoom(b *testing.B) {
	if err := Supported(); err != nil {
		b.Skipf("NOT MEASURED: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for b.Loop() {
		r, err := Open(Config{
			Dir: dir, Limits: builder.Limits{Memory: 256 << 20, PIDs: 64}, Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"},
		})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
