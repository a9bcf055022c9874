package audit

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
)

// RoleLedger is the role of the ledger itself: it signs with the key of its checkpoints.
const RoleLedger = "audit"

// Writers are the keys whose signatures count, as the entries of a ledger so far say. At first that
// is the ledger's own alone. Not safe for concurrent use.
type Writers struct{ keys map[string]*enrolled }

type enrolled struct {
	Writer
	key crypto.PublicKey
}

// NewWriters returns the writers of a ledger without entries, whose checkpoints this key signs.
func NewWriters(ledger ed25519.PublicKey) (*Writers, error) {
	spki, err := x509.MarshalPKIXPublicKey(ledger)
	if err != nil {
		return nil, err
	}
	w := &Writers{keys: map[string]*enrolled{}}
	return w, w.enrol(&Writer{Role: RoleLedger, Key: spki})
}

// ErrWriter matches the errors of Verify that signatures by the key do not count.
var ErrWriter = errors.New("the ledger takes no records by this key")

// Clone returns a copy.
func (w *Writers) Clone() *Writers { return &Writers{maps.Clone(w.keys)} }

// Verify fails unless the envelope of r is signed by a key that counts, for this role and instance.
// Only the ledger may say who writes to it, and what is no longer there.
func (w *Writers) Verify(env *Envelope, r *Record) error {
	key, err := w.Key(env, r)
	if err != nil {
		return err
	}
	return env.Verify(key)
}

// Key is Verify without the check of the signature: it returns the key that must have signed.
func (w *Writers) Key(env *Envelope, r *Record) (crypto.PublicKey, error) {
	e := w.keys[env.KeyID()]
	switch {
	case e == nil:
		return nil, fmt.Errorf("%w: the key %s was never enrolled", ErrWriter, env.KeyID())
	case e.Revoked:
		return nil, fmt.Errorf("%w: the key %s was revoked", ErrWriter, env.KeyID())
	case e.Role != r.By.Role, e.Instance != "" && e.Instance != r.By.Instance:
		return nil, fmt.Errorf("%w: the key %s signs for %s %q, and the record is by %s %q", ErrWriter, env.KeyID(), e.Role, e.Instance, r.By.Role, r.By.Instance)
	case e.Role != RoleLedger && (r.Kind == KindWriter || r.Kind == KindRetention || r.Kind == KindErasure):
		return nil, fmt.Errorf("%w: only the ledger itself records what is of kind %s", ErrWriter, r.Kind)
	}
	return e.key, nil
}

// Add notes what a record says about writers, which Verify accepted. Call it for each entry, in order.
func (w *Writers) Add(r *Record) error {
	if r.Kind != KindWriter || r.Outcome != Done {
		return nil
	}
	if r.Writer.Role == RoleLedger {
		return errors.New("writer: the ledger's own key cannot be replaced")
	}
	return w.enrol(r.Writer)
}

func (w *Writers) enrol(writer *Writer) error {
	key, err := ParseKey(writer.Key)
	if err != nil {
		return fmt.Errorf("writer: %w", err)
	}
	w.keys[KeyID(writer.Key)] = &enrolled{*writer, key}
	return nil
}

// Has reports whether a key counts for the role and instance.
func (w *Writers) Has(writer Writer) bool {
	e := w.keys[KeyID(writer.Key)]
	return e != nil && !e.Revoked && e.Role == writer.Role && e.Instance == writer.Instance
}

// Enrolled reports whether a key was ever enrolled, also if it was revoked since.
func (w *Writers) Enrolled(key []byte) bool { return w.keys[KeyID(key)] != nil }

// All returns the writers that count, in no order.
func (w *Writers) All() (all []Writer) {
	for _, e := range w.keys {
		if !e.Revoked {
			all = append(all, e.Writer)
		}
	}
	return all
}
