package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	protocol "golang.org/x/crypto/acme"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

// Pair is a certificate, with its chain, and its key.
type Pair struct {
	Cert []byte `json:"cert"` // PEM
	Key  []byte `json:"key"`  // PEM
}

func newPair(c tls.Certificate) (*Pair, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	var p Pair
	for _, der := range c.Certificate {
		p.Cert = append(p.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return &p, nil
}

// State is what Current serves.
type State struct {
	Pair     *Pair  `json:"pair,omitempty"`     // nil: there is no certificate yet
	Failures int    `json:"failures,omitempty"` // attempts that failed since the last success
	Fault    string `json:"fault,omitempty"`    // why the last attempt failed and when the next one is; empty after a success
}

// Config of a Keeper.
type Config struct {
	Settings
	Origin string // the platform's URL
	Roots  []byte // content of CAFile, PEM
	Dir    string // where account, certificate and attempts are stored
	Log    *slog.Logger
}

// Keeper gets certificates and renews them. Safe for concurrent use.
type Keeper struct {
	config  Config
	name    string
	roots   *x509.CertPool
	account *keys.Key

	challenge atomic.Pointer[Pair] // answers the authority while it looks at the port

	mu       sync.Mutex
	pair     *Pair
	leaf     *x509.Certificate // of pair
	attempts attempts
}

// attempts is the file attempts.json.
type attempts struct {
	Directory string    `json:"directory"`       // of the last attempt
	Name      string    `json:"name"`            // of the last attempt
	Failures  int       `json:"failures"`        // since the last success
	Fault     string    `json:"fault,omitempty"` // of the last attempt
	Last      time.Time `json:"last"`            // when the last attempt began
	Next      time.Time `json:"next,omitzero"`   // no attempt before that
}

const (
	fileCertificate = "certificate.pem" // key and chain in one file, so that both are replaced at once
	fileAttempts    = "attempts.json"

	maxFile  = 1 << 20 // limit of each file, in bytes
	maxFault = 1 << 10 // bytes of a reason
)

// Open opens the keeper of a directory.
func Open(c Config) (k *Keeper, err error) {
	k = &Keeper{config: c}
	if err := c.Check(c.Origin); err != nil {
		return nil, err
	}
	if k.name, err = nameOf(c.Origin); err != nil {
		return nil, err
	}
	if k.roots, err = x509.SystemCertPool(); err != nil {
		return nil, err
	}
	if c.CAFile != "" && !k.roots.AppendCertsFromPEM(c.Roots) {
		return nil, fmt.Errorf("caFile: %s has no certificate", c.CAFile)
	}
	if k.account, err = keys.Open(c.Dir, "account"); err != nil {
		return nil, err
	}
	if k.pair, k.leaf, err = readPair(c.Dir); err != nil {
		return nil, err
	}
	if k.attempts, err = readAttempts(c.Dir); err != nil {
		return nil, err
	}
	if k.leaf != nil && k.leaf.VerifyHostname(k.name) != nil { // the platform's URL has changed
		k.pair, k.leaf = nil, nil
	}
	return k, nil
}

// readPair returns the stored certificate and its leaf, or nil if there is none.
func readPair(dir string) (*Pair, *x509.Certificate, error) {
	path := filepath.Join(dir, fileCertificate)
	data, err := strict.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	both, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; delete it to get a new certificate", path, err)
	}
	key, chain := pem.Decode(data)
	return &Pair{Cert: chain, Key: pem.EncodeToMemory(key)}, both.Leaf, nil
}

func readAttempts(dir string) (a attempts, err error) {
	path := filepath.Join(dir, fileAttempts)
	data, err := strict.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	} else if err != nil {
		return a, err
	}
	if err := strict.UnmarshalKnown(data, maxFile, &a); err != nil {
		return a, strict.In(path, err)
	}
	return a, nil
}

// Stored returns the certificate in dir, or nil, and why the last attempt to get a new one
// failed, or "".
func Stored(dir string) (leaf *x509.Certificate, fault string, err error) {
	_, leaf, err = readPair(dir)
	if err != nil {
		return nil, "", err
	}
	a, err := readAttempts(dir)
	return leaf, a.fault(), err
}

// fault says why the last attempt failed and when the next one is, or "".
func (a attempts) fault() string {
	if a.Fault == "" {
		return ""
	}
	return fmt.Sprintf("no new certificate for %s on %s: %s; the next attempt is on %s",
		a.Name, a.Last.UTC().Format(time.RFC3339), a.Fault, a.Next.UTC().Format(time.RFC3339))
}

// Handler serves the role that holds the port: the certificate to use, and the one that
// answers the authority.
func (k *Keeper) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+PathCurrent, func(w http.ResponseWriter, _ *http.Request) { answer(w, k.state()) })
	mux.HandleFunc("GET "+PathChallenge, func(w http.ResponseWriter, r *http.Request) {
		pair := k.challenge.Load()
		if pair == nil || r.URL.Query().Get("name") != k.name {
			http.Error(w, "the authority is not expected now", http.StatusNotFound)
			return
		}
		answer(w, pair)
	})
	return mux
}

// Paths of Handler. PathCurrent answers a State. PathChallenge answers the Pair for the name
// in the query "name", or 404 if no authority is expected to look at the port.
const (
	PathCurrent   = "/certificate"
	PathChallenge = "/challenge"
)

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the role that asked is gone
}

func (k *Keeper) state() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return State{Pair: k.pair, Failures: k.attempts.Failures, Fault: k.attempts.fault()}
}

// Limits of how often the authority is asked, whatever it answers. Let's Encrypt allows five
// failures an hour for a name; here they are after 0, 2, 6, 14 and 30 minutes, and so on.
const (
	atLeast   = 10 * time.Second   // between any two attempts
	firstWait = 2 * time.Minute    // after a failure; doubled after each further one
	mostWait  = 12 * time.Hour     // after many failures
	mostAfter = 7 * 24 * time.Hour // that Retry-After can demand
)

// Run keeps the certificate up to date until ctx is done.
func (k *Keeper) Run(ctx context.Context) {
	for {
		// Looks at the clock each minute, because timers stand still while a machine sleeps.
		wait := min(max(0, time.Until(k.due(time.Now()))), time.Minute)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if now := time.Now(); now.Before(k.due(now)) {
			continue
		}
		if err := k.attempt(ctx, k.obtain); err != nil && ctx.Err() == nil {
			k.config.Log.Error("the certificate of the port was not renewed", "error", err)
		}
	}
}

// due returns when the next attempt may begin.
func (k *Keeper) due(now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.attempts
	due := now
	if k.leaf != nil && a.Directory == k.config.Directory && a.Name == k.name {
		due = renewal(k.leaf)
	}
	// A clock that was wrong does not stop attempts for ever.
	if next := a.Next; next.After(due) && next.Before(now.Add(mostAfter+time.Hour)) {
		due = next
	}
	return due
}

// renewal returns when a certificate is renewed: when a third of its time is left.
func renewal(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// attempt tries once to get a certificate. It counts the attempt on disk before it begins.
func (k *Keeper) attempt(ctx context.Context, obtain func(context.Context) (*Pair, error)) error {
	k.mu.Lock()
	a := attempts{Directory: k.config.Directory, Name: k.name, Failures: k.attempts.Failures + 1, Fault: "it was interrupted", Last: time.Now().UTC()}
	k.mu.Unlock()
	wait := backoff(a.Failures)
	a.Next = a.Last.Add(wait)
	err := k.write(a)
	if err == nil {
		var pair *Pair
		if pair, err = obtain(ctx); err == nil {
			err = k.use(pair)
		}
	}
	switch {
	case err == nil:
		a = attempts{Directory: a.Directory, Name: a.Name, Last: a.Last, Next: time.Now().UTC().Add(atLeast)}
	case ctx.Err() == nil:
		a.Fault = strings.ToValidUTF8(cut(printable.Line(err.Error()), maxFault), "")
		a.Next = time.Now().UTC().Add(max(wait, min(retryAfter(err), mostAfter)))
		err = errors.New(a.fault())
	}
	k.mu.Lock()
	k.attempts = a
	k.mu.Unlock()
	return errors.Join(err, k.write(a))
}

func cut(s string, most int) string { return s[:min(len(s), most)] }

// retryAfter returns how long the authority asks us to wait (Retry-After), or 0.
func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok {
		return 0
	}
	// The library reads the header of answers that say "too many requests" only.
	after, _ := protocol.RateLimit(&protocol.Error{ProblemType: "urn:ietf:params:acme:error:rateLimited", Header: e.Header})
	return after
}

// backoff returns the time to wait after the given number of failures, with up to a tenth
// more, so that platforms that failed together do not come back together.
func backoff(failures int) time.Duration {
	wait := firstWait << min(failures-1, 16)
	wait = min(wait, mostWait)
	return wait + rand.N(wait/10)
}

// write writes a to the disk.
func (k *Keeper) write(a attempts) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(k.config.Dir, fileAttempts), data, 0o600)
}

// use stores a certificate and serves it.
func (k *Keeper) use(pair *Pair) error {
	both, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(k.config.Dir, fileCertificate), bytes.Join([][]byte{pair.Key, pair.Cert}, nil), 0o600); err != nil {
		return err
	}
	k.mu.Lock()
	k.pair, k.leaf = pair, both.Leaf
	k.mu.Unlock()
	k.config.Log.Info("the port has a new certificate", "until", both.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}
