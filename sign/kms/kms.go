// Package kms signs with private keys that another program has: in a hardware token, by
// PKCS #11, or in a key management service.
//
// The programs speak version 1 of Sigstore's protocol for such plugins
// (github.com/sigstore/sigstore/pkg/signature/kms/cliplugin): one process for each request,
// which is an argument; the answer is JSON on standard output. Colophon's own program,
// colophon-keys, has the keys that Schemes lists. The keys NAME://… of any other name are
// those of a program sigstore-kms-NAME in PATH, as for cosign.
//
// No secret is in an argument. A cloud's own client finds its credentials in the environment;
// the PIN of a PKCS #11 token is written to the standard input of colophon-keys.
package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/sign/token"
)

// Program is the name of Colophon's own program.
const Program = "colophon-keys"

// Schemes are the URI schemes of the keys that Program has.
var Schemes = []string{"awskms", "azurekms", "gcpkms", "hashivault", "openbao", pkcs11}

// A Key is a private key of another program, of a kind that sign.Algorithm has. It is a
// crypto.Signer for sign.OpenKey.
type Key struct {
	ctx     context.Context // of Open, because crypto.Signer takes none
	uri     string
	id      string // the program's own name of the key
	path    string // of the program
	pin     []byte
	stderr  io.Writer
	timeout time.Duration
	public  crypto.PublicKey
	signs   signature.AlgorithmDetails
}

// Options say how to open a key.
type Options struct {
	// PIN returns the PIN of a token (PKCS #11) if the URI has no pin-source. It is called
	// once at most. nil: such a token is an error.
	PIN func() ([]byte, error)
	// Stderr is where the program may talk to the user ("touch the key"); nil: nowhere.
	Stderr io.Writer
	// Timeout of one request; 0: a minute.
	Timeout time.Duration
}

var (
	// uri has the form of every URI of a key: those of PKCS #11 (RFC 7512) have no authority.
	uri = lazyregexp.New(`^(pkcs11:|[a-z][a-z0-9-]*://)`)
	// ErrNoProgram means that the program that has the keys of a scheme is not installed.
	ErrNoProgram = errors.New("the program is neither beside this one nor in PATH")
)

// IsURI reports whether a key is named by a URI, and not by a file.
func IsURI(name string) bool { return uri.MatchString(name) }

// Open returns the key that a URI names, after the program has told its public key. All
// requests for the key end with ctx.
func Open(ctx context.Context, name string, o Options) (*Key, error) {
	if !IsURI(name) || !printable.IsASCII(name) || len(name) > limits.FetchURL {
		return nil, fmt.Errorf("key: got %q, want a URI such as pkcs11:token=NAME or awskms:///alias/NAME", printable.Cut(name, 100))
	}
	if strings.Contains(strings.ToLower(name), "pin-value") {
		return nil, ErrPINInURI
	}
	k := &Key{ctx: ctx, uri: name, stderr: o.Stderr, timeout: o.Timeout}
	if k.timeout == 0 {
		k.timeout = time.Minute
	}
	var err error
	if k.path, k.id, err = program(name); err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, pkcs11+":") {
		if k.pin, err = pin(name, o.PIN); err != nil {
			return nil, k.fail(err)
		}
	}
	answer, err := k.ask(&common.MethodArgs{MethodName: common.PublicKeyMethodName, PublicKey: &common.PublicKeyArgs{PublicKeyOptions: &common.PublicKeyOptions{}}})
	if err != nil {
		return nil, k.fail(err)
	}
	if answer.PublicKey == nil {
		return nil, k.fail(errors.New("the program answered without a public key"))
	}
	if k.public, err = parsePublic(answer.PublicKey.PublicKeyPEM); err != nil {
		return nil, k.fail(err)
	}
	if k.signs, err = sign.Algorithm(k.public); err != nil {
		return nil, k.fail(err)
	}
	return k, nil
}

// program returns the program for the keys of a scheme, and its name of the key.
func program(name string) (path, id string, err error) {
	scheme, rest, _ := strings.Cut(name, ":")
	if !slices.Contains(Schemes, scheme) {
		plugin := "sigstore-kms-" + scheme
		if path, err = exec.LookPath(plugin); err != nil {
			return "", "", fmt.Errorf("key %s: %s: %w", name, plugin, ErrNoProgram)
		}
		return path, strings.TrimPrefix(rest, "//"), nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), Program+filepath.Ext(self))
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, name, nil
		}
	}
	if path, err = exec.LookPath(Program); err != nil {
		return "", "", fmt.Errorf("key %s: %s: %w", name, Program, ErrNoProgram)
	}
	return path, name, nil
}

// parsePublic reads the PEM block of a SubjectPublicKeyInfo.
func parsePublic(data []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the program did not answer with one PEM block \"PUBLIC KEY\"")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return public, nil
}

// Public returns the public key that the program told.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign returns the signature of a digest by the hash of the key's algorithm, after it has
// verified it with the public key: the program or the service may answer wrongly, have
// changed the key, or sign by another algorithm.
func (k *Key) Sign(_ io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	hash := k.signs.GetHashType()
	if o.HashFunc() != hash || len(digest) != hash.Size() {
		return nil, k.fail(fmt.Errorf("got a digest of %d bytes by %s, want %s", len(digest), o.HashFunc(), hash))
	}
	answer, err := k.ask(&common.MethodArgs{MethodName: common.SignMessageMethodName, SignMessage: &common.SignMessageArgs{
		SignOptions: &common.SignOptions{MessageOptions: common.MessageOptions{Digest: &digest, HashFunc: &hash}},
	}})
	if err != nil {
		return nil, k.fail(err)
	}
	verifier, err := signature.LoadVerifierFromAlgorithmDetails(k.public, k.signs)
	if err != nil {
		return nil, k.fail(err)
	}
	if answer.SignMessage == nil || verifier.VerifySignature(bytes.NewReader(answer.SignMessage.Signature), nil, options.WithDigest(digest)) != nil {
		return nil, k.fail(fmt.Errorf("what the program answered is no signature by its public key (%s) of what was to be signed", k.signs.GetSignatureAlgorithm()))
	}
	return answer.SignMessage.Signature, nil
}

// fail names the key in an error. A URI has no secrets: Open refuses a PIN in it.
func (k *Key) fail(err error) error { return fmt.Errorf("key %s: %w", k.uri, err) }

// ask runs the program for one request.
func (k *Key) ask(method *common.MethodArgs) (*common.PluginResp, error) {
	ctx, cancel := context.WithTimeout(k.ctx, k.timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	request, err := json.Marshal(common.PluginArgs{
		InitOptions: &common.InitOptions{
			CtxDeadline: &deadline, ProtocolVersion: common.ProtocolVersion, KeyResourceID: k.id,
			HashFunc:   crypto.SHA256, // each request to sign names its own
			RPCOptions: &common.RPCOptions{},
		},
		MethodArgs: method,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, k.path, common.ProtocolVersion, string(request))
	cmd.Env = token.Without(os.Environ())
	cmd.Stdin, cmd.Stderr = bytes.NewReader(k.pin), k.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { out.Close() })() // a child of it may hold the pipe
	raw, readErr := strict.Read(out, limits.Request)
	if readErr != nil {
		cancel() // what it still prints is not read
	}
	err = cmd.Wait()
	name := filepath.Base(k.path)
	switch {
	case k.ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", name, k.ctx.Err())
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: no answer within %s", name, k.timeout)
	case readErr != nil:
		return nil, fmt.Errorf("%s: answer: %w", name, readErr)
	}
	var answer common.PluginResp
	switch unreadable := strict.Unmarshal(bytes.TrimSpace(raw), limits.Request, &answer); {
	case unreadable == nil && answer.ErrorMessage != "":
		return nil, fmt.Errorf("%s: %s", name, printable.Cut(printable.Line(answer.ErrorMessage), 1000))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case unreadable != nil:
		return nil, fmt.Errorf("%s: answer: %w", name, unreadable)
	}
	return &answer, nil
}
