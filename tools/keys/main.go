// Colophon-keys signs with keys of hardware tokens (PKCS #11) and of key management services,
// for "colophon sign --key URI". It is a program of its own because the libraries of four
// clouds and the vendor's module of a token have no place in the process that decides whom to
// trust.
//
// It speaks version 1 of Sigstore's protocol for such plugins, see package sign/kms: the first
// argument is the version, the second one the request, and the answer is on standard output.
// It reads the PIN of a token from standard input.
package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

var version = "devel"

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Println("colophon-keys " + version)
		return
	}
	if len(os.Args) != 3 || os.Args[1] != common.ProtocolVersion {
		fmt.Fprintln(os.Stderr, "colophon-keys: colophon starts this program for keys with a URI: see colophon sign --help")
		os.Exit(2)
	}
	// A library that prints must not spoil the answer.
	answer := os.Stdout
	os.Stdout = os.Stderr
	if err := serve(answer, os.Stdin, os.Args); err != nil {
		if handler.WriteErrorResponse(answer, err) != nil {
			os.Exit(1)
		}
	}
}

// serve answers one request. What it returns is the answer, if it has not written one.
func serve(stdout io.Writer, stdin io.Reader, osArgs []string) error {
	args, err := handler.GetPluginArgs(osArgs)
	if err != nil {
		return err
	}
	if args.InitOptions == nil || args.MethodArgs == nil {
		return errors.New("request: there are no initOptions, or there is no method")
	}
	digest, hash, err := digestOf(args.MethodArgs)
	if err != nil {
		return err
	}
	uri := args.InitOptions.KeyResourceID
	ctx := context.Background()
	if d := args.InitOptions.CtxDeadline; d != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, *d)
		defer cancel()
	}
	if strings.HasPrefix(uri, "pkcs11:") {
		resp, err := serveToken(uri, stdin, digest, hash)
		if err != nil {
			return err
		}
		return handler.WriteResponse(stdout, resp)
	}
	if !supported(uri) {
		return fmt.Errorf("the key is none of pkcs11:, %s", strings.Join(kms.SupportedProviders(), ", "))
	}
	key, err := kms.Get(ctx, uri, hash)
	if err != nil {
		return err
	}
	_, err = handler.Dispatch(stdout, stdin, args, key)
	return err
}

// supported reports whether a key is one of the services linked into this program. Package
// kms would start other programs for the rest.
func supported(uri string) bool {
	for _, scheme := range kms.SupportedProviders() {
		if strings.HasPrefix(uri, scheme) {
			return true
		}
	}
	return false
}

// digestOf returns the digest to sign and its hash; no digest if the public key is asked for.
// This program does nothing else: it makes no keys.
func digestOf(m *common.MethodArgs) ([]byte, crypto.Hash, error) {
	switch {
	case m.MethodName == common.PublicKeyMethodName && m.PublicKey != nil && m.PublicKey.PublicKeyOptions != nil:
		return nil, crypto.SHA256, nil
	case m.MethodName != common.SignMessageMethodName || m.SignMessage == nil || m.SignMessage.SignOptions == nil:
		return nil, 0, fmt.Errorf("request: got method %q, want publicKey or signMessage with options", m.MethodName)
	}
	digest, hash := m.SignMessage.SignOptions.MessageOptions.Digest, m.SignMessage.SignOptions.MessageOptions.HashFunc
	if digest == nil || hash == nil || !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, *hash) || len(*digest) != hash.Size() {
		return nil, 0, errors.New("request: want a digest of SHA-256, SHA-384 or SHA-512 to sign")
	}
	return *digest, *hash, nil
}

// serveToken answers a request for a key of a PKCS #11 token.
func serveToken(uri string, stdin io.Reader, digest []byte, hash crypto.Hash) (*common.PluginResp, error) {
	which, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	pin, err := io.ReadAll(io.LimitReader(stdin, 1025))
	if err != nil || len(pin) == 0 || len(pin) > 1024 {
		return nil, errors.New("PIN: want 1 to 1024 bytes on standard input")
	}
	m, err := load(which.module)
	if err != nil {
		return nil, err
	}
	s, err := m.open(which, pin)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if digest == nil {
		public, err := s.public()
		if err != nil {
			return nil, err
		}
		pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
		return &common.PluginResp{PublicKey: &common.PublicKeyResp{PublicKeyPEM: pem}}, err
	}
	signature, err := s.sign(digest, hash)
	return &common.PluginResp{SignMessage: &common.SignMessageResp{Signature: signature}}, err
}
