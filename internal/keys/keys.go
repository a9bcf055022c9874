// Package keys stores the long-lived P-256 keys of a service and their certificates in
// files: PKCS#8 (RFC 5958) and X.509, in PEM.
//
// A key NAME is two or three files in a directory: NAME.key (the private key, 0600),
// NAME.json (its creation time and public key) and, if it has a certificate, NAME.crt. If
// NAME.key is missing but NAME.json or NAME.crt exists, Open returns an error instead of
// creating a new key, because everything ever signed depends on the old one. After Seal,
// the same holds for every file of a key, and if all of them are missing.
package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
)

const maxFile = 64 << 10 // limit of each file, in bytes

// Key is a private key and its creation time (UTC, whole seconds).
type Key struct {
	*ecdsa.PrivateKey
	Created time.Time

	path string // path of the files, without suffix
}

// record is NAME.json.
type record struct {
	Created   time.Time `json:"created"`
	PublicKey []byte    `json:"publicKey"` // PKIX, DER
}

// Open returns the key name in dir. If no file of the key exists, Open creates it, and dir
// with mode 0700.
func Open(dir, name string) (*Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of key %q: %w", name, err)
	}
	path := filepath.Join(dir, name)
	priv, err := readPrivate(path + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		priv, err = create(path)
	}
	if err != nil {
		return nil, err
	}
	k := &Key{PrivateKey: priv, path: path}
	if err := k.readRecord(); err != nil {
		return nil, err
	}
	return k, nil
}

// create creates a key. If a public file of it exists, the key was lost: create returns an
// error.
func create(path string) (*ecdsa.PrivateKey, error) {
	for _, suffix := range []string{".json", ".crt"} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return nil, fmt.Errorf("%s.key is missing, but %s%s shows that it existed; restore it from a backup", path, filepath.Base(path), suffix)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := checkNew(path + ".key"); err != nil {
		return nil, err
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.CreateFile(path+".key", block, 0o600); err != nil {
		return nil, fmt.Errorf("new key: %w", err)
	}
	// The key's directory may be new, so its entry must be durable too.
	return priv, durable.SyncDir(filepath.Dir(filepath.Dir(path)))
}

func readPrivate(path string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("private key %s is %s, not a regular file", path, st.Mode().Type())
	}
	if perm := st.Mode().Perm(); perm != 0o600 && perm != 0o400 {
		return nil, fmt.Errorf("private key %s has mode %04o, want 0600; find out who could read it, then chmod 600", path, perm)
	}
	data, err := strict.Read(f, maxFile)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", path, err)
	}
	der, err := onlyBlock(data, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w; restore it from a backup", path, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w; restore it from a backup", path, err)
	}
	priv, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || priv.Curve != elliptic.P256() {
		return nil, fmt.Errorf("private key %s is a %T, want ECDSA on P-256", path, parsed)
	}
	return priv, nil
}

// readRecord reads NAME.json. If it is missing, the key is new, or a crash came between the
// two files: readRecord writes it.
func (k *Key) readRecord() error {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return err
	}
	path := k.path + ".json"
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := checkNew(path); err != nil {
			return err
		}
		r := record{Created: time.Now().UTC().Truncate(time.Second), PublicKey: spki}
		if data, err = json.Marshal(r); err != nil {
			return err
		}
		err = durable.CreateFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("record of key: %w", err)
	}
	var r record
	if err := strict.UnmarshalKnown(data, maxFile, &r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !bytes.Equal(r.PublicKey, spki) {
		return fmt.Errorf("%s.key is not the key that %s was written for: got public key %x, want %x", k.path, path, sha256.Sum256(spki), sha256.Sum256(r.PublicKey))
	}
	if r.Created.IsZero() {
		return fmt.Errorf("%s has no creation time", path)
	}
	k.Created = r.Created.UTC()
	return nil
}

// Public returns the public key of the key name in dir, without reading the private key.
func Public(dir, name string) (*ecdsa.PublicKey, error) {
	path := filepath.Join(dir, name+".json")
	data, err := strict.ReadFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	var r record
	if err := strict.UnmarshalKnown(data, maxFile, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	parsed, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: got a %T, want ECDSA", path, parsed)
	}
	return key, nil
}

// madeFile lists the files of a directory that Seal found: a JSON array of names.
const madeFile = "made.json"

// Seal records which keys and certificates dir has. From then on, Open and Certify create
// none of these files again. Call it when the first start has created all of them: before,
// a crash may have left a part, which the next start completes.
func Seal(dir string) error {
	old, err := made(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	names := slices.Clone(old)
	for _, e := range entries {
		if stem, ok := strings.CutSuffix(e.Name(), ".key"); ok {
			names = append(names, stem+".key", stem+".json")
		} else if strings.HasSuffix(e.Name(), ".crt") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); slices.Equal(names, old) {
		return nil
	}
	data, err := json.Marshal(names)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, madeFile), append(data, '\n'), 0o644)
}

// made returns the names that Seal recorded.
func made(dir string) (names []string, err error) {
	path := filepath.Join(dir, madeFile)
	data, err := strict.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := strict.UnmarshalKnown(data, maxFile, &names); err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup", path, err)
	}
	return names, nil
}

// checkNew returns an error if Seal recorded the file, which is missing now.
func checkNew(path string) error {
	names, err := made(filepath.Dir(path))
	if err == nil && slices.Contains(names, filepath.Base(path)) {
		err = fmt.Errorf("%s is missing, but %s shows that it existed; restore it from a backup", path, madeFile)
	}
	return err
}

// Authority is a certificate and its private key.
type Authority struct {
	Key  *Key
	Cert *x509.Certificate
}

// CA returns the template of a certificate authority's certificate, valid until until. below
// is how many more authorities a chain may have between it and a leaf.
func CA(commonName string, until time.Time, below int) x509.Certificate {
	return x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"colophon"}, CommonName: commonName},
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            below,
		MaxPathLenZero:        below == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// Certify returns the certificate of k in NAME.crt. If it does not exist, Certify creates it
// from template, signed by issuer, or by k if issuer is nil. Certify sets serial number, key
// identifiers and NotBefore (the creation time of k), and appends a part of the key
// identifier to the common name. It returns an error if the existing certificate has
// expired, is for another key, or is from another issuer.
func (k *Key) Certify(template x509.Certificate, issuer *Authority) (*Authority, error) {
	a := &Authority{Key: k}
	path := k.path + ".crt"
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := checkNew(path); err != nil {
			return nil, err
		}
		if data, err = k.newCertificate(template, issuer); err != nil {
			return nil, err
		}
		err = durable.CreateFile(path, data, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	der, err := onlyBlock(data, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	if a.Cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	if !k.PublicKey.Equal(a.Cert.PublicKey) {
		return nil, fmt.Errorf("certificate %s is not for the key in %s.key", path, k.path)
	}
	parent := a.Cert
	if issuer != nil {
		parent = issuer.Cert
	}
	if err := a.Cert.CheckSignatureFrom(parent); err != nil {
		return nil, fmt.Errorf("certificate %s is not signed by %q: %w", path, parent.Subject.CommonName, err)
	}
	if now := time.Now(); now.After(a.Cert.NotAfter) {
		return nil, fmt.Errorf("certificate %s expired at %s, now is %s", path, a.Cert.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return a, nil
}

func (k *Key) newCertificate(template x509.Certificate, issuer *Authority) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	template.SubjectKeyId = id[:20]
	template.NotBefore = k.Created
	// The authorities of two platforms must have different names.
	template.Subject.CommonName += fmt.Sprintf(" %x", id[:4])
	parent, signer := &template, k
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, k.Public(), signer.PrivateKey)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// onlyBlock returns the content of data, which must be a single PEM block of this kind.
func onlyBlock(data []byte, kind string) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("no PEM block in %d bytes", len(data))
	}
	if block.Type != kind {
		return nil, fmt.Errorf("got PEM block %q, want %q", block.Type, kind)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%d bytes follow the PEM block", len(rest))
	}
	return block.Bytes, nil
}
