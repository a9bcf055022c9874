package release

import (
	"os"
	"testing"
)

// The test binary is also the processes apart.
func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}
