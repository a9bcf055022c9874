package policy

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/tlog"
)

// maxWitnesses limits the keys in Witnesses.
const maxWitnesses = 32

// Witnesses demands that witnesses have cosigned the checkpoints that prove that signatures are in
// a log. The zero Witnesses demands nothing.
//
// Whoever writes the policy chooses the witnesses, and not the log, its operator or a trust root of
// theirs: a log that shows two histories could name two witnesses of its own.
type Witnesses struct {
	AtLeast int      // how many witnesses; keys of one name are keys of one witness
	Keys    []string // verifier keys (tlog.ParseWitnessKey), at most 32; no two of one public key
}

// None reports whether w demands nothing.
func (w Witnesses) None() bool { return w.AtLeast == 0 && len(w.Keys) == 0 }

func (w Witnesses) equal(x Witnesses) bool {
	return w.AtLeast == x.AtLeast && slices.Equal(w.Keys, x.Keys)
}

// Parse returns the keys.
func (w Witnesses) Parse() ([]tlog.WitnessKey, error) {
	if len(w.Keys) > maxWitnesses {
		return nil, fmt.Errorf("policy: log: got %d keys of witnesses, want at most %d", len(w.Keys), maxWitnesses)
	}
	var keys []tlog.WitnessKey
	for _, vkey := range w.Keys {
		k, err := tlog.ParseWitnessKey(vkey)
		if err != nil {
			return nil, fmt.Errorf("policy: log: %w", err)
		}
		for _, other := range keys {
			if k.Same(other) {
				return nil, fmt.Errorf("policy: log: the witnesses %s and %s have the same public key", other.Name(), k.Name())
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (w Witnesses) check(p Policy) error {
	if w.None() {
		return nil
	}
	switch o := p.Origin.(type) {
	case NotationSignature:
		return errors.New("policy: log: signatures of notation are in no log")
	case SummaryOnly:
		return errors.New("policy: log: a policy that demands only a verification summary verifies nothing that is in a log")
	case SignerProvenance:
		if withoutLog(o.Signer) {
			return errors.New("policy: log: the policy accepts the signer's signature without a log")
		}
	case SignatureOnly:
		if withoutLog(o.Signer) {
			return errors.New("policy: log: the policy accepts the signer's signature without a log")
		}
	}
	for _, a := range p.Attestations {
		if a.Signer != nil && withoutLog(a.Signer) {
			return fmt.Errorf("policy: log: the policy accepts an attestation without a log: %s", a.PredicateType)
		}
	}
	for _, v := range slices.Concat(p.Verifiers, p.Provenance().SourceVerifiers) {
		if withoutLog(v.Signer) {
			return fmt.Errorf("policy: log: the policy accepts a verification summary without a log: that of %s", v.ID)
		}
	}
	return w.Check()
}

// Check fails if no checkpoint can meet w, or if w demands nothing.
func (w Witnesses) Check() error {
	keys, err := w.Parse()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, k := range keys {
		names[k.Name()] = true
	}
	if w.AtLeast < 1 || w.AtLeast > len(names) {
		return fmt.Errorf("policy: log: witnesses: got %d, want 1 to %d, the number of witnesses in keys", w.AtLeast, len(names))
	}
	return nil
}

// Cosigned returns the names of the witnesses that cosigned the best of these checkpoints, which
// tlog.OpenCheckpoint opened with keys of logs; names that w does not demand are left out. It fails
// if they are too few, and if a key of w is that of a log. latest is the latest time
// that a cosignature can be of.
func (w Witnesses) Cosigned(checkpoints []string, logs []crypto.PublicKey, latest time.Time) ([]string, error) {
	keys, err := w.Parse()
	if err != nil {
		return nil, err
	}
	for _, log := range logs {
		for _, k := range keys {
			if k.Is(log) {
				return nil, fmt.Errorf("the policy names the log's own key as that of the witness %s", k.Name())
			}
		}
	}
	var best []string
	failure := error(tlog.ErrNoWitness)
	for _, signed := range checkpoints {
		all, err := tlog.Cosignatures([]byte(signed), keys, latest)
		if err != nil && !errors.Is(err, tlog.ErrNoWitness) {
			failure = err
		}
		if names := tlog.Witnesses(all); len(names) > len(best) {
			best = names
		}
	}
	switch {
	case len(best) >= w.AtLeast:
		slices.Sort(best)
		return best, nil
	case len(best) > 0:
		failure = fmt.Errorf("only %s has cosigned the checkpoint", strings.Join(best, ", "))
	}
	return nil, fmt.Errorf("the policy demands %s: %w", w, failure)
}

// String returns the demand for people.
func (w Witnesses) String() string {
	keys, err := w.Parse()
	if err != nil || w.None() {
		return "no witnesses"
	}
	var names []string
	for _, k := range keys {
		if !slices.Contains(names, k.Name()) {
			names = append(names, k.Name())
		}
	}
	return fmt.Sprintf("%d of the witnesses %s", w.AtLeast, strings.Join(names, ", "))
}

// LogDocument is Witnesses in a policy document of version 2.
type LogDocument struct {
	Witnesses int      `json:"witnesses"` // how many of the witnesses below must have cosigned the checkpoints
	Keys      []string `json:"keys"`      // verifier keys of witnesses that you chose; several keys of one name are one witness
}
