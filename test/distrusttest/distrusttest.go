// Package distrusttest issues lists of what is no longer trusted, for tests: signed by a key, as an
// issuer without a platform does it.
package distrusttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sign"
)

// Issuer has a key and a list. It is safe for concurrent use, but for its fields.
type Issuer struct {
	Now  func() time.Time // nil: time.Now
	Life time.Duration    // of the next heads

	t   testing.TB
	key *ecdsa.PrivateKey

	mu  sync.Mutex
	raw []byte
}

// New returns an issuer with an empty list.
func New(t testing.TB) *Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{t: t, key: key, Life: 15 * time.Minute}
	i.Add()
	return i
}

// Add adds entries about these scopes, or only a new head, and returns the list.
func (i *Issuer) Add(scopes ...distrust.Scope) []byte {
	var entries []distrust.Entry
	for _, s := range scopes {
		entries = append(entries, distrust.Entry{Scope: &s, Reason: "taken"})
	}
	return i.AddEntries(entries...)
}

// Lift lifts an entry.
func (i *Issuer) Lift(number int) []byte {
	return i.AddEntries(distrust.Entry{Lift: &number, Reason: "a mistake"})
}

// AddEntries adds entries as they are, but for number and time.
func (i *Issuer) AddEntries(entries ...distrust.Entry) []byte {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.Now != nil {
		now = i.Now()
	}
	for j := range entries {
		entries[j].Time = now.UTC().Truncate(time.Second)
	}
	var before *distrust.List
	if i.raw != nil {
		var err error
		if before, err = distrust.Parse(i.raw); err != nil {
			i.t.Fatal(err)
		}
	}
	head, lines, err := distrust.Next(before, "https://issuer.example/distrust", entries, now, i.Life)
	if err != nil {
		i.t.Fatal(err)
	}
	signature, err := sign.Unlogged(i.key, head)
	if err != nil {
		i.t.Fatal(err)
	}
	i.raw = distrust.File(i.raw, head, signature, lines)
	return i.raw
}

// Raw returns the list as it is.
func (i *Issuer) Raw() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.raw
}

// Forge returns the list of another issuer with more entries, which this one signs.
func (i *Issuer) Forge(list []byte, more ...distrust.Entry) []byte {
	forger := &Issuer{t: i.t, key: i.key, Now: i.Now, Life: i.Life, raw: list}
	return forger.AddEntries(more...)
}

// Fork returns an issuer with the same key and an empty list.
func (i *Issuer) Fork() *Issuer {
	other := &Issuer{t: i.t, key: i.key, Now: i.Now, Life: i.Life}
	other.Add()
	return other
}

// PublicKey returns the key that verifies the list, PEM.
func (i *Issuer) PublicKey() string {
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		i.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Issuer returns the issuer as a machine names it.
func (i *Issuer) Issuer(name, from string) distrust.Issuer {
	key, err := policy.ParseKey(i.PublicKey())
	if err != nil {
		i.t.Fatal(err)
	}
	key.InsecureNoLog = true
	return distrust.Issuer{Name: name, From: from, Signer: key, Wide: true}
}

// Known returns the issuer with its list, as a reader knows it.
func (i *Issuer) Known(name string) distrust.Known {
	i.t.Helper()
	l, err := distrust.Parse(i.Raw())
	if err != nil {
		i.t.Fatal(err)
	}
	return distrust.Known{Issuer: i.Issuer(name, "list"), List: l}
}

// ServeHTTP serves the list.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.Raw()) }

// Write writes the issuers as a file of a machine, and returns its path.
func Write(t testing.TB, issuers ...distrust.Issuer) string {
	t.Helper()
	raw, err := distrust.IssuersFile(issuers)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "issuers.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
