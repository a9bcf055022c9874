package trust

import (
	"crypto/x509"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// Window is the time in which a key, an authority or a certificate is trusted.
type Window struct {
	From  time.Time // inclusive; zero: no start
	Until time.Time // inclusive; zero: no end
}

// CertificateWindow returns the validity of a certificate. Its end is never zero: a
// certificate that ended in the year 1, Go's zero time, does not become valid
// forever.
func CertificateWindow(c *x509.Certificate) Window {
	w := Window{c.NotBefore, c.NotAfter}
	if w.Until.IsZero() {
		w.Until = w.Until.Add(time.Nanosecond)
	}
	return w
}

// LogWindow returns the window in which a trust root trusts the key of a log.
func LogWindow(l *root.TransparencyLog) Window {
	return Window{l.ValidityPeriodStart, l.ValidityPeriodEnd}
}

func authorityWindow(a *root.FulcioCertificateAuthority) Window {
	return Window{a.ValidityPeriodStart, a.ValidityPeriodEnd}
}

func timestampAuthorityWindow(a *root.SigstoreTimestampingAuthority) Window {
	return Window{a.ValidityPeriodStart, a.ValidityPeriodEnd}
}

// Contains reports whether t is in the window.
func (w Window) Contains(t time.Time) bool {
	return !t.Before(w.From) && (w.Until.IsZero() || !t.After(w.Until))
}

// and returns the time that is in both windows.
func (w Window) and(o Window) Window {
	if o.From.After(w.From) {
		w.From = o.From
	}
	if w.Until.IsZero() || !o.Until.IsZero() && o.Until.Before(w.Until) {
		w.Until = o.Until
	}
	return w
}

// String returns the window as text that can follow "valid" or "trusted", such as
// "from 2026-01-02 12:00:00Z on".
func (w Window) String() string {
	switch {
	case w.From.IsZero() && w.Until.IsZero():
		return "at all times"
	case w.From.IsZero():
		return "until " + FormatTime(w.Until)
	case w.Until.IsZero():
		return "from " + FormatTime(w.From) + " on"
	}
	return "from " + FormatTime(w.From) + " to " + FormatTime(w.Until)
}

// FormatTime formats a time for people, in UTC: "2026-01-02 12:00:00Z".
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
