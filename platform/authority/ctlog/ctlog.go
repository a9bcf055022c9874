// Package ctlog is the certificate transparency log of the platform's certificate
// authority. It issues SCTs as RFC 6962 defines them, and stores and serves entries as
// C2SP static-ct-api defines them. Only the authority, in the same process, can add
// entries; everybody can read them at /ct/.
//
// An SCT promises that the entry is in the log. So the log issues it only after the entry
// is in the tree on disk, fsynced; the SCT contains the leaf index. A crash before that
// breaks no promise. A crash after it loses nothing: the next start publishes the
// checkpoint. There is no queue to recover.
package ctlog

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
	"github.com/transparency-dev/tessera/storage/posix"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/platform/authority/tiles"
)

const (
	// Tessera writes together the entries that it gets within batchAge. We give it all
	// entries of a group at once (see group.go), so a short time is enough.
	batchAge  = 500 * time.Microsecond
	batchSize = 256

	checkpointInterval = 500 * time.Millisecond
)

// Config of a Service.
type Config struct {
	KeyDir  string // directory of the key; created at first start
	TileDir string // directory of the log; created at first start
	URL     string // the platform's origin; the log is under /ct/

	Log *slog.Logger // gets messages for the operator; nil: slog.Default()
}

// keyName is the name of the log's key in Config.KeyDir.
const keyName = "ctlog"

// Service is the log. Safe for concurrent use.
type Service struct {
	key      *keys.Key
	record   tiles.Record
	verifier *treeVerifier
	id       [sha256.Size]byte // log ID: SHA-256 of the public key, PKIX
	dir      string
	root     *os.Root // dir, for reading
	log      *slog.Logger
	add      func(context.Context, *ctonly.Entry) tessera.IndexFuture
	closed   context.Context
	stop     func(context.Context) error

	mu      sync.Mutex
	last    view                       // the newest checkpoint that was read
	issuers map[[sha256.Size]byte]bool // issuing certificates that are on disk, by SHA-256
	vkey    string                     // for the record of the log; empty: it is written

	waiting chan *waiting // entries that are not in the tree yet
}

// New opens the log, and creates it at the first start.
func New(cfg Config) (*Service, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("CT log: got URL %q, want an origin", cfg.URL)
	}
	if err := checkKey(cfg); err != nil {
		return nil, err
	}
	key, err := keys.Open(cfg.KeyDir, keyName)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	s := &Service{key: key, record: recordOf(cfg.KeyDir), id: sha256.Sum256(spki), dir: cfg.TileDir, log: cfg.Log, issuers: map[[sha256.Size]byte]bool{}, waiting: make(chan *waiting, batchSize)}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.verifier = newTreeVerifier(u.Host+"/ct", &key.PublicKey, s.id)
	s.vkey = s.verifier.vkey(s.id)
	if err := tiles.Check(context.Background(), cfg.TileDir, s.verifier); err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.TileDir, "issuer"), 0o755); err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	if s.root, err = os.OpenRoot(cfg.TileDir); err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	driver, err := posix.New(ctx, posix.Config{Path: cfg.TileDir})
	if err == nil {
		opts := tessera.NewAppendOptions().
			WithCTLayout().
			WithCheckpointSigner(newTreeSigner(key, s.verifier)).
			WithCheckpointInterval(checkpointInterval).
			WithBatching(batchSize, batchAge)
		var appender *tessera.Appender
		var shutdown func(context.Context) error
		if appender, shutdown, _, err = tessera.NewAppender(ctx, driver, opts); err == nil {
			s.add = tessera.NewCertificateTransparencyAppender(appender)
			s.closed = ctx
			s.stop = func(ctx context.Context) error {
				defer cancel()
				return shutdown(ctx)
			}
			go s.group()
			return s, nil
		}
	}
	cancel()
	s.root.Close()
	return nil, fmt.Errorf("CT log in %s: %w", cfg.TileDir, err)
}

// checkKey returns an error if the log exists but its key does not, or if the log is lost. With a new
// key, no certificate in the old tree could be verified any more; with a new tree, the key would sign
// two histories.
func checkKey(cfg Config) error {
	_, treeErr := os.Lstat(filepath.Join(cfg.TileDir, "checkpoint"))
	path := filepath.Join(cfg.KeyDir, "ctlog.key")
	_, keyErr := os.Lstat(path)
	if treeErr == nil && errors.Is(keyErr, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing, but %s holds a log signed with it; restore it from a backup", path, cfg.TileDir)
	}
	if err := recordOf(cfg.KeyDir).Check(cfg.TileDir); err != nil {
		return fmt.Errorf("CT log %s: %w", cfg.TileDir, err)
	}
	return nil
}

func recordOf(keyDir string) tiles.Record {
	return tiles.Record(filepath.Join(keyDir, keyName+".vkey"))
}

// recordEntries writes the record, since the log has entries.
func (s *Service) recordEntries() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vkey == "" {
		return nil
	}
	if err := s.record.Write(s.vkey); err != nil {
		return err
	}
	s.vkey = ""
	return nil
}

// Close waits until a checkpoint covers every entry that has an SCT.
func (s *Service) Close(ctx context.Context) error {
	defer s.root.Close()
	return s.stop(ctx)
}

// PublicKey returns the log's key. SHA-256 of its PKIX form is the log ID.
func (s *Service) PublicKey() crypto.PublicKey { return s.key.Public() }

// Since returns when the key was created (UTC).
func (s *Service) Since() time.Time { return s.key.Created }

// AddPreChain logs a precertificate (RFC 6962, section 3.1) and returns the SCT for the
// final certificate. chain is precertificate, issuer, …, root.
func (s *Service) AddPreChain(ctx context.Context, chain []*x509.Certificate) (*ct.SignedCertificateTimestamp, error) {
	entry, err := s.entry(chain)
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	index, err := s.sequence(ctx, entry)
	if err == nil {
		err = s.recordEntries()
	}
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	sct := &ct.SignedCertificateTimestamp{
		SCTVersion: ct.V1,
		LogID:      ct.LogID{KeyID: s.id},
		Timestamp:  entry.Timestamp,
		Extensions: leafIndex(index),
	}
	input, err := ct.SerializeSCTSignatureInput(*sct, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{
		Version:  ct.V1,
		LeafType: ct.TimestampedEntryLeafType,
		TimestampedEntry: &ct.TimestampedEntry{
			Timestamp: entry.Timestamp,
			EntryType: ct.PrecertLogEntryType,
			PrecertEntry: &ct.PreCert{
				IssuerKeyHash:  [sha256.Size]byte(entry.IssuerKeyHash),
				TBSCertificate: entry.Certificate,
			},
		},
	}})
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	sig, err := sign(s.key.PrivateKey, input)
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	sct.Signature = ct.DigitallySigned(sig)
	return sct, nil
}

// entry checks the chain and returns its log entry.
func (s *Service) entry(chain []*x509.Certificate) (*ctonly.Entry, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("got a chain of %d certificates, want a precertificate and its issuers", len(chain))
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return nil, fmt.Errorf("certificate %d of the chain is not signed by the next: %w", i, err)
		}
	}
	if !poisoned(chain[0]) {
		return nil, errors.New("the first certificate of the chain is not a precertificate")
	}
	tbs, err := ctx509.RemoveCTPoison(chain[0].RawTBSCertificate)
	if err != nil {
		return nil, err
	}
	issuerKey := sha256.Sum256(chain[1].RawSubjectPublicKeyInfo)
	e := &ctonly.Entry{
		Timestamp:      uint64(time.Now().UnixMilli()),
		IsPrecert:      true,
		Certificate:    tbs,
		Precertificate: chain[0].Raw,
		IssuerKeyHash:  issuerKey[:],
	}
	for _, c := range chain[1:] {
		fp := sha256.Sum256(c.Raw)
		if err := s.storeIssuer(fp, c.Raw); err != nil {
			return nil, err
		}
		e.FingerprintsChain = append(e.FingerprintsChain, fp)
	}
	return e, nil
}

func poisoned(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier(ctx509.OIDExtensionCTPoison)) {
			return e.Critical
		}
	}
	return false
}

// storeIssuer writes an issuing certificate to issuer/, where static-ct-api clients look
// for it.
func (s *Service) storeIssuer(fp [sha256.Size]byte, der []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issuers[fp] {
		return nil
	}
	path := filepath.Join(s.dir, "issuer", hex.EncodeToString(fp[:]))
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, der) { // missing or damaged
		if err := durable.WriteFile(path, der, 0o644); err != nil {
			return err
		}
	}
	s.issuers[fp] = true
	return nil
}

// leafIndex returns the CTExtensions of static-ct-api: type 0, length 5, uint40.
func leafIndex(i uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, i)
	return append([]byte{0, 0, 5}, b[3:]...)
}

func sign(key *ecdsa.PrivateKey, input []byte) (cttls.DigitallySigned, error) {
	h := sha256.Sum256(input)
	sig, err := ecdsa.SignASN1(rand.Reader, key, h[:])
	return cttls.DigitallySigned{
		Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA},
		Signature: sig,
	}, err
}
