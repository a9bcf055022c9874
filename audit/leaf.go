package audit

import (
	"bytes"
	"fmt"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/tlog"
)

// leafHead is the first line of an entry of an audit ledger, with its version.
const leafHead = "colophon audit v1"

// Leaf is an entry of an audit ledger.
type Leaf struct {
	Received time.Time // by the clock of the ledger, UTC
	Envelope []byte    // see ParseEnvelope
}

// A leaf:
//
//	"colophon audit v1" LF
//	received LF               RFC 3339 in UTC, no trailing zeros in the fraction
//	envelope                  as Envelope.Bytes returns it

// Bytes returns the entry of the log.
func (l Leaf) Bytes() []byte {
	return fmt.Appendf(nil, "%s\n%s\n%s", leafHead, l.Received.UTC().Format(time.RFC3339Nano), l.Envelope)
}

// Hash returns the leaf hash (RFC 6962, 2.1).
func (l Leaf) Hash() tlog.Hash { return tlog.LeafHash(l.Bytes()) }

// ID returns the ID of the record.
func (l Leaf) ID() string { return ID(l.Envelope) }

// ParseLeaf reads an entry of an audit ledger, and the record in it. It accepts exactly what Bytes
// writes. It does not verify the signature: see Writers.
func ParseLeaf(entry []byte) (l Leaf, env *Envelope, r *Record, err error) {
	parts := bytes.SplitN(entry, []byte("\n"), 3)
	if len(parts) != 3 || string(parts[0]) != leafHead {
		return l, nil, nil, fmt.Errorf("entry of the audit ledger: found %q, expected version 1, which starts with %q", printable.Cut(printable.Line(string(parts[0])), 40), leafHead)
	}
	if l.Received, err = time.Parse(time.RFC3339Nano, string(parts[1])); err != nil {
		return l, nil, nil, fmt.Errorf("entry of the audit ledger: received: %w", err)
	}
	l.Envelope = parts[2]
	if !bytes.Equal(l.Bytes(), entry) {
		return l, nil, nil, fmt.Errorf("entry of the audit ledger: it is not in the form that version 1 has")
	}
	env, r, err = ParseEnvelope(l.Envelope)
	return l, env, r, err
}

// Origin returns the origin of the audit ledger of the platform whose log has this origin.
func Origin(log string) string { return log + "/audit" }
