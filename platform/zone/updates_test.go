package zone

import (
	"strings"
	"testing"
)

// A value that the process would refuse to read is refused where it is set, and the one before stays:
// the process would read no later one either.
func TestUpdatesTooLarge(t *testing.T) {
	u, err := NewUpdates("first")
	if err != nil {
		t.Fatal(err)
	}
	if u.most != maxOrder {
		t.Errorf("got at most %d bytes, want what processes read, %d", u.most, maxOrder)
	}
	u.most = 16
	if err := u.Set(strings.Repeat("x", 16)); err == nil {
		t.Error("got no error")
	}
	if latest, _ := u.get(); string(latest) != `"first"` {
		t.Errorf("got %q", latest)
	}
	if err := u.Set("second"); err != nil {
		t.Fatal(err)
	}
	if latest, _ := u.get(); string(latest) != `"second"` {
		t.Errorf("got %q", latest)
	}
}
