package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"

	"github.com/colophon-build/colophon/sign/kms"
	"github.com/colophon-build/colophon/test/await"
)

// TestMain is also the program that has the keys, if it is started under such a name.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); strings.HasPrefix(name, "sigstore-kms-") || name == kms.Program {
		if len(os.Args) != 3 || os.Args[1] != "v1" {
			panic(fmt.Sprintf("got arguments %q", os.Args))
		}
		fake(os.Args[2])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// theKey is the same in every process, because each request is a process of its own.
func theKey(n byte) *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

func theP384() *ecdsa.PrivateKey {
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), bytes.Repeat([]byte{1}, 48))
	if err != nil {
		panic(err)
	}
	return k
}

// theRSA is the key in the file that the environment names.
func theRSA() *rsa.PrivateKey {
	der, err := os.ReadFile(os.Getenv("COLOPHON_TEST_RSA"))
	if err != nil {
		panic(err)
	}
	k, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		panic(err)
	}
	return k
}

func publicPEM(key any) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func print(v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(raw)
}

// fake answers as the key's name says: faults of its public key, of its signature, or of it all.
func fake(request string) {
	var args common.PluginArgs
	if err := json.Unmarshal([]byte(request), &args); err != nil {
		panic(err)
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	if args.InitOptions.RPCOptions == nil { // a plugin of cosign's framework unpacks it
		print(common.PluginResp{ErrorMessage: "the request has no rpcOptions"})
		return
	}
	id := args.InitOptions.KeyResourceID
	if args.MethodName == common.PublicKeyMethodName {
		fakePublic(id, stdin)
		return
	}
	digest := *args.SignMessage.SignOptions.MessageOptions.Digest
	key := theKey(1)
	switch id {
	case "another-key":
		key = theKey(2)
	case "another-digest":
		digest[0]++
	case "late-exit":
		defer os.Exit(1)
	}
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
	switch id {
	case "p384", "p384-by-sha256":
		var hash crypto.SignerOpts = crypto.SHA384
		if id != "p384" {
			sum := sha256.Sum256([]byte("content"))
			digest, hash = sum[:], crypto.SHA256
		}
		signature, err = theP384().Sign(rand.Reader, digest, hash)
	case "rsa":
		signature, err = theRSA().Sign(rand.Reader, digest, crypto.SHA256)
	case "rsa-pss":
		signature, err = theRSA().Sign(rand.Reader, digest, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	if err != nil {
		panic(err)
	}
	switch id {
	case "trailing-data":
		signature = append(signature, 0)
	case "no-signature":
		signature = nil
	case "no-answer":
		print(common.PluginResp{})
		return
	case "refusing":
		print(common.PluginResp{ErrorMessage: "access\x1b[2J denied\nnow"})
		return
	case "orphan":
		child := exec.Command("/bin/sleep", "300")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			panic(err)
		}
	case "hanging":
		time.Sleep(time.Hour)
	case "endless":
		for {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				os.Exit(0)
			}
		}
	}
	print(common.PluginResp{SignMessage: &common.SignMessageResp{Signature: signature}})
	if id == "trailing-text" {
		os.Stdout.WriteString("signed")
	}
}

func fakePublic(id string, stdin []byte) {
	public := publicPEM(theKey(1).Public())
	switch {
	case strings.HasPrefix(id, "pkcs11:") && string(stdin) != "1234":
		print(common.PluginResp{ErrorMessage: "wrong PIN"})
		return
	case id == "environment":
		var has []string
		for _, name := range append(jobTokens, "AWS_PROFILE") {
			has = append(has, os.Getenv(name))
		}
		print(common.PluginResp{ErrorMessage: strings.Join(has, " ")})
		return
	case id == "p224":
		k, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		public = publicPEM(k.Public())
	case strings.HasPrefix(id, "p384"):
		public = publicPEM(theP384().Public())
	case id == "ed25519":
		k, _, _ := ed25519.GenerateKey(rand.Reader)
		public = publicPEM(k)
	case id == "rsa1024":
		public = publicPEM(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537})
	case strings.HasPrefix(id, "rsa"):
		public = publicPEM(theRSA().Public())
	case id == "two-public":
		public = append(public, public...)
	case id == "text":
		os.Stdout.WriteString("usage: sigstore-kms-fake")
		return
	case id == "nothing":
		return
	case id == "early-exit":
		os.Exit(7)
	case id == "twice":
		fmt.Printf(`{"publicKey":{"publicKeyPEM":""},"publicKey":{"publicKeyPEM":""}}`)
		return
	}
	print(common.PluginResp{PublicKey: &common.PublicKeyResp{PublicKeyPEM: public}})
}

// programs puts this test into PATH under the names of programs with keys.
func programs(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"sigstore-kms-fake", kms.Program} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestSign(t *testing.T) {
	programs(t)
	pinFile := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pinFile, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("content"))
	ask := func() ([]byte, error) { return []byte("1234"), nil }
	for uri, o := range map[string]kms.Options{
		"fake://good":                            {},
		"awskms:///one":                          {},
		"pkcs11:token=a;object=b?module-path=/m": {PIN: ask},
		"pkcs11:token=a?module-path=/m&pin-source=file:" + pinFile:             {},
		"pkcs11:token=a?module-path=/m&pin-source=file://" + pinFile:           {},
		"pkcs11:token=a?pin-source=" + strings.ReplaceAll(pinFile, "/", "%2F"): {},
	} {
		k, err := kms.Open(t.Context(), uri, o)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		signature, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(&theKey(1).PublicKey, digest[:], signature) {
			t.Errorf("%s: got signature %x, error %v", uri, signature, err)
		}
		if _, err := k.Sign(nil, make([]byte, 48), crypto.SHA384); err == nil || !strings.Contains(err.Error(), "want SHA-256") {
			t.Errorf("%s: a digest by another hash: got %v", uri, err)
		}
	}
	t.Setenv("COLOPHON_TEST_RSA", writeRSA(t))
	long := sha512.Sum384([]byte("content"))
	if k, err := kms.Open(t.Context(), "fake://p384", kms.Options{}); err != nil {
		t.Error(err)
	} else if signature, err := k.Sign(nil, long[:], crypto.SHA384); err != nil || !ecdsa.VerifyASN1(&theP384().PublicKey, long[:], signature) {
		t.Errorf("P-384: got signature %x, error %v", signature, err)
	}
	if k, err := kms.Open(t.Context(), "fake://rsa", kms.Options{}); err != nil {
		t.Error(err)
	} else if signature, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil || rsa.VerifyPKCS1v15(&theRSA().PublicKey, crypto.SHA256, digest[:], signature) != nil {
		t.Errorf("RSA: got signature %x, error %v", signature, err)
	}
}

func writeRSA(t *testing.T) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rsa")
	if err := os.WriteFile(path, x509.MarshalPKCS1PrivateKey(k), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHostile: a program or service that answers wrongly makes no signature.
func TestHostile(t *testing.T) {
	programs(t)
	t.Setenv("COLOPHON_TEST_RSA", writeRSA(t))
	digest, long := sha256.Sum256([]byte("content")), sha512.Sum384([]byte("content"))
	const noSignature = "no signature by its public key"
	for id, want := range map[string]string{
		"p224": "curve P-224, want ECDSA", "ed25519": "Ed25519", "rsa1024": "RSA of 1024 bits, want", "rsa-pss": noSignature, "p384-by-sha256": noSignature,
		"two-public": "one PEM block", "text": "answer: ", "nothing": "answer: ", "early-exit": "exit status 7", "twice": "duplicate",
		"another-key": noSignature, "another-digest": noSignature, "trailing-data": noSignature, "no-signature": noSignature, "no-answer": noSignature,
		"late-exit": "exit status 1", "refusing": "access�[2J denied; now", "hanging": "no answer within 3s", "orphan": "no answer within 3s", "endless": "got more than", "trailing-text": "answer: ",
	} {
		t.Run(id, func(t *testing.T) {
			start, patience := time.Now(), await.Patience
			if strings.Contains(want, "within 3s") {
				patience = 3 * time.Second
			}
			k, err := kms.Open(t.Context(), "fake://"+id, kms.Options{Timeout: patience})
			if err == nil {
				var signature []byte
				if signature, err = k.Sign(nil, digest[:], crypto.SHA256); id == "p384-by-sha256" {
					signature, err = k.Sign(nil, long[:], crypto.SHA384)
				}
				if signature != nil {
					t.Errorf("got a signature")
				}
			}
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "key fake://"+id) {
				t.Errorf("got error %v, want %q in it", err, want)
			}
			if took := time.Since(start); took > await.Patience {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	programs(t)
	wrong := func() ([]byte, error) { return []byte("4321"), nil }
	long := func() ([]byte, error) { return make([]byte, 2000), nil }
	for uri, tt := range map[string]struct {
		o    kms.Options
		want string
	}{
		"key.pem":                     {want: "want a URI"},
		"fake://\x1b[2J":              {want: "want a URI"},
		"../fake://x":                 {want: "want a URI"},
		"other://x":                   {want: "sigstore-kms-other: the program is neither"},
		"pkcs11:token=a":              {want: "nobody gave the PIN"},
		"pkcs11:token=b":              {o: kms.Options{PIN: wrong}, want: "wrong PIN"},
		"pkcs11:token=c":              {o: kms.Options{PIN: long}, want: "want 1 to 1024"},
		"pkcs11:a?pin-source=|/bin/x": {want: "want file:/PATH"},
		"pkcs11:a?pin-source=file:/a&pin-source=file:/b": {want: "two attributes"},
		"pkcs11:a?pin-source=file:/nonexistent/pin":      {want: "no such file"},
	} {
		if _, err := kms.Open(t.Context(), uri, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", uri, err, tt.want)
		}
	}
	// The PIN in the URI is not repeated.
	if _, err := kms.Open(t.Context(), "pkcs11:token=a?pin-value=8765", kms.Options{PIN: wrong}); !errors.Is(err, kms.ErrPINInURI) || strings.Contains(err.Error(), "8765") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kms.Open(ctx, "fake://good", kms.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
}

var jobTokens = []string{"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SIGSTORE_ID_TOKEN", "BUILDKITE_AGENT_ACCESS_TOKEN"}

// TestEnvironment: the program gets the cloud's credentials, and none of the job's tokens.
func TestEnvironment(t *testing.T) {
	programs(t)
	t.Setenv("AWS_PROFILE", "for-the-program")
	for _, name := range jobTokens {
		t.Setenv(name, "hunter2")
	}
	_, err := kms.Open(t.Context(), "fake://environment", kms.Options{})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "for-the-program") {
		t.Errorf("got %v", err)
	}
}
