package log

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/logkey"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	recordFile = "log.json" // in Config.Dir
	maxRecord  = 64 << 10   // limit of the record, in bytes
)

// record is the content of log.json: the properties of a log that never change. The first
// start writes it last. Once it exists, a missing key or missing tiles are an error; the
// server never creates new ones.
type record struct {
	Origin    string    `json:"origin"`
	Created   time.Time `json:"created"`   // UTC, whole seconds
	PublicKey []byte    `json:"publicKey"` // PKIX, DER
}

// openKey reads the log's key and record. If there is no log yet, the record is nil, and
// openKey creates the key unless an interrupted first start has created it.
func openKey(dir, keyFile, origin string) (ed25519.PrivateKey, *record, error) {
	path, tiles := filepath.Join(dir, recordFile), filepath.Join(dir, tilesDir)
	hasTiles, err := exists(tiles)
	if err != nil {
		return nil, nil, err
	}
	data, err := strict.ReadFile(path, maxRecord)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !isNew:
		return nil, nil, fmt.Errorf("record of the log: %w", err)
	case !isNew && !hasTiles:
		return nil, nil, fmt.Errorf("%s is missing, but %s shows that the log existed; restore it from a backup", tiles, path)
	}
	key, err := logkey.Read(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if hasTiles {
			return nil, nil, fmt.Errorf("log key %s is missing, but the log in %s was created with it; restore it from a backup", keyFile, dir)
		}
		key, err = logkey.Create(keyFile)
	}
	if err != nil || isNew {
		return key, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	var r record
	switch err := strict.UnmarshalKnown(data, maxRecord, &r); {
	case err != nil:
		return nil, nil, fmt.Errorf("record of the log %s: %w", path, err)
	case r.Origin != origin:
		return nil, nil, fmt.Errorf("log in %s: got origin %q, want %q, with which it was created; a log cannot be renamed", dir, origin, r.Origin)
	case !bytes.Equal(r.PublicKey, spki):
		return nil, nil, fmt.Errorf("log key %s: got public key %x, want %x, with which the log in %s was created", keyFile, spki, r.PublicKey, dir)
	case r.Created.IsZero():
		return nil, nil, fmt.Errorf("record of the log %s has no creation time", path)
	}
	return key, &r, nil
}

// createRecord writes the record, the last step of the first start of a log.
func createRecord(dir, origin string, key ed25519.PrivateKey) (*record, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	r := &record{origin, time.Now().UTC().Truncate(time.Second), spki}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(filepath.Join(dir, recordFile), append(data, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("record of the log: %w", err)
	}
	// The log's directory may be new, so its entry must be durable too.
	return r, durable.SyncDir(filepath.Dir(dir))
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
