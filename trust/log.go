package trust

import (
	"fmt"
	"net/url"

	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// LogVerifier returns the verifier of the checkpoints of a log of a trust root. Its name is
// the log's origin: of a Rekor v2 log, and of a platform's, the host name in its URL. The
// origins of a Rekor v1 log's trees are not in the trust root.
func LogVerifier(l *root.TransparencyLog) (note.Verifier, error) {
	u, err := url.Parse(l.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", l.BaseURL, err)
	}
	v, err := tlog.NewVerifier(u.Hostname(), l.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", l.BaseURL, err)
	}
	return v, nil
}
