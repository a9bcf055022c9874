package trust

import (
	"crypto/x509"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// Window is the time in which a key, an authority or a certificate is trusted.
// Both ends belong to it; an end that is zero is open.
type Window struct {
	From, Until time.Time
}

// CertificateWindow is the time in which a certificate is valid. A certificate
// has no open end: one that ended in the year 1, the zero time, ended then.
func CertificateWindow(c *x509.Certificate) Window {
	w := Window{c.NotBefore, c.NotAfter}
	if w.Until.IsZero() {
		w.Until = w.Until.Add(time.Nanosecond)
	}
	return w
}

// LogWindow is the time in which a trust root trusts the key of a log.
func LogWindow(l *root.TransparencyLog) Window {
	return Window{l.ValidityPeriodStart, l.ValidityPeriodEnd}
}

func authorityWindow(a *root.FulcioCertificateAuthority) Window {
	return Window{a.ValidityPeriodStart, a.ValidityPeriodEnd}
}

func timestamperWindow(a *root.SigstoreTimestampingAuthority) Window {
	return Window{a.ValidityPeriodStart, a.ValidityPeriodEnd}
}

// Contains says whether t is in the window.
func (w Window) Contains(t time.Time) bool {
	return !t.Before(w.From) && (w.Until.IsZero() || !t.After(w.Until))
}

// And is the time that is in both windows.
func (w Window) And(o Window) Window {
	if o.From.After(w.From) {
		w.From = o.From
	}
	if w.Until.IsZero() || !o.Until.IsZero() && o.Until.Before(w.Until) {
		w.Until = o.Until
	}
	return w
}

// String words the window, to follow "valid" or "trusted".
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

// FormatTime writes a time for people, in UTC.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
