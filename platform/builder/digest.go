package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// FileDigest returns the hex sha256 of a file. Builders use it to record which
// programs took part in a build.
func FileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
