package trust

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var open time.Time
	for _, tt := range []struct {
		from, until           time.Time
		before, within, after bool // an hour before noon, at noon, an hour after
		words                 string
	}{
		{noon, noon, false, true, false, "from 2026-01-02 12:00:00Z to 2026-01-02 12:00:00Z"},
		{noon, open, false, true, true, "from 2026-01-02 12:00:00Z on"},
		{open, noon, true, true, false, "until 2026-01-02 12:00:00Z"},
		{open, open, true, true, true, "at all times"},
		{noon.Add(time.Second), open, false, false, true, "from 2026-01-02 12:00:01Z on"},
	} {
		w := Window{From: tt.from, Until: tt.until}
		for at, want := range map[time.Time]bool{noon.Add(-time.Hour): tt.before, noon: tt.within, noon.Add(time.Hour): tt.after} {
			if got := w.Contains(at); got != want {
				t.Errorf("%s contains %s: got %v, want %v", w, at, got, want)
			}
		}
		if got := w.String(); got != tt.words {
			t.Errorf("got %q, want %q", got, tt.words)
		}
	}
	if w := CertificateWindow(&x509.Certificate{}); w.Contains(noon) {
		t.Errorf("a certificate that ended in the year 1 is valid %s", w)
	}
	day := Window{From: noon, Until: noon.Add(24 * time.Hour)}
	for _, tt := range []struct{ other, want Window }{
		{Window{}, day},
		{Window{From: noon.Add(-time.Hour), Until: noon.Add(time.Hour)}, Window{From: noon, Until: noon.Add(time.Hour)}},
		{Window{From: noon.Add(time.Hour)}, Window{From: noon.Add(time.Hour), Until: day.Until}},
	} {
		if got, again := day.and(tt.other), tt.other.and(day); got != tt.want || again != tt.want {
			t.Errorf("%s and %s: got %s and %s, want %s", day, tt.other, got, again, tt.want)
		}
	}
}
