package keys

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func root() x509.Certificate {
	return x509.Certificate{
		Subject:               pkix.Name{CommonName: "test root"},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}

func TestKeyAndCertificateSurviveReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	open := func() *Authority {
		k, err := Open(dir, "root")
		if err != nil {
			t.Fatal(err)
		}
		a, err := k.Certify(root(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	one, two := open(), open()
	if !one.Key.Equal(two.Key.PrivateKey) || !one.Cert.Equal(two.Cert) || !one.Key.Created.Equal(two.Key.Created) {
		t.Error("reopening gave another key, certificate or creation time")
	}
	st, err := os.Stat(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("got mode %04o, want 0600", st.Mode().Perm())
	}
}

// A crash may come between the files; the next start completes them.
func TestRecordIsWrittenAfterACrash(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "root.json")); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	if !k.Equal(again.PrivateKey) {
		t.Error("a key without a record was replaced")
	}
}

func TestDamageIsAnErrorNeverANewKey(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string) error
		want   string
	}{
		"key gone, record there": {func(t *testing.T, dir string) error {
			os.Remove(filepath.Join(dir, "root.crt"))
			return os.Remove(filepath.Join(dir, "root.key"))
		}, "restore it from a backup"},
		"key and record gone, certificate there": {func(t *testing.T, dir string) error {
			os.Remove(filepath.Join(dir, "root.json"))
			return os.Remove(filepath.Join(dir, "root.key"))
		}, "root.crt shows that it existed"},
		"readable by others": {func(t *testing.T, dir string) error {
			return os.Chmod(filepath.Join(dir, "root.key"), 0o640)
		}, "mode 0640, want 0600"},
		"empty": {func(t *testing.T, dir string) error {
			return os.Truncate(filepath.Join(dir, "root.key"), 0)
		}, "no PEM block"},
		"cut short": {func(t *testing.T, dir string) error {
			return os.Truncate(filepath.Join(dir, "root.key"), 100)
		}, "no PEM block"},
		"a directory": {func(t *testing.T, dir string) error {
			os.Remove(filepath.Join(dir, "root.key"))
			return os.Mkdir(filepath.Join(dir, "root.key"), 0o700)
		}, "not a regular file"},
		"another key": {func(t *testing.T, dir string) error {
			other := t.TempDir()
			if _, err := Open(other, "root"); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "root.key"), filepath.Join(dir, "root.key"))
		}, "is not the key that"},
		"another certificate": {func(t *testing.T, dir string) error {
			other := t.TempDir()
			k, err := Open(other, "root")
			if err != nil {
				return err
			}
			if _, err := k.Certify(root(), nil); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "root.crt"), filepath.Join(dir, "root.crt"))
		}, "is not for the key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			k, err := Open(dir, "root")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.Certify(root(), nil); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(t, dir); err != nil {
				t.Fatal(err)
			}
			if k, err = Open(dir, "root"); err == nil {
				_, err = k.Certify(root(), nil)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

// After Seal, a missing file of a key is an error: nothing that was lost is made anew.
func TestSealedFilesAreNotMadeAgain(t *testing.T) {
	for _, lost := range [][]string{{"root.crt"}, {"root.json"}, {"root.key"}, {"root.key", "root.json", "root.crt"}} {
		t.Run(strings.Join(lost, " "), func(t *testing.T) {
			dir := t.TempDir()
			open := func(name string) error {
				k, err := Open(dir, name)
				if err == nil {
					_, err = k.Certify(root(), nil)
				}
				return err
			}
			for range 2 { // sealing again changes nothing
				if err := open("root"); err != nil {
					t.Fatal(err)
				}
				if err := Seal(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range lost {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // nor does the next start take a part for the whole
				if err := open("root"); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
					t.Errorf("got error %v, want one about a backup", err)
				}
				if err := Seal(dir); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range lost {
				if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
					t.Errorf("%s was made again", name)
				}
			}
			if err := open("another"); err != nil {
				t.Errorf("a key that never was: got %v", err)
			}
		})
	}
}

// A record of made files that cannot be read is an error, not an empty one.
func TestDamagedSeal(t *testing.T) {
	for _, text := range []string{"", "[", `{"root.key": true}`, `["../root.key"] x`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "made.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, "root"); err == nil {
			t.Errorf("%q: a key was made", text)
		}
		if err := Seal(dir); err == nil {
			t.Errorf("%q: it was sealed", text)
		}
	}
}
