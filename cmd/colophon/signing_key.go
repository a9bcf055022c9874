package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/sign/kms"
)

// openKey opens the key that --key names.
func (o *signingOptions) openKey(ctx context.Context, in io.Reader, w io.Writer) (crypto.Signer, error) {
	if !kms.IsURI(o.key) {
		return o.readKey(in, w)
	}
	k, err := kms.Open(ctx, o.key, kms.Options{Stderr: os.Stderr, PIN: func() ([]byte, error) {
		return o.secret(in, w, "PIN", "it needs the PIN of its token")
	}})
	if err == nil {
		return k, nil
	}
	if ours, ok := errors.AsType[*exitError](err); ok {
		return nil, ours
	}
	failed := &exitError{code: exitFailure, msg: err.Error()}
	scheme, _, _ := strings.Cut(o.key, ":")
	switch {
	case errors.Is(err, kms.ErrPINInURI):
		return nil, usageError("--password-file FILE, or pin-source=file:/PATH in the URI", "--key: %v", err)
	case errors.Is(err, kms.ErrNoProgram) && slices.Contains(kms.Schemes, scheme):
		failed.hint = "install " + kms.Program + " beside colophon: make keys builds it"
	case errors.Is(err, kms.ErrNoProgram):
		failed.hint = "install that plugin of cosign, or use a key of " + strings.Join(kms.Schemes, ", ")
	}
	return nil, failed
}

func (o *signingOptions) readKey(in io.Reader, w io.Writer) (crypto.Signer, error) {
	raw, err := strict.ReadFile(o.key, limits.Request)
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	k, err := sign.ParseKey(raw, func() ([]byte, error) {
		return o.secret(in, w, "password", sign.ErrEncrypted.Error())
	})
	if _, ours := errors.AsType[*exitError](err); err != nil && !ours {
		return nil, usageError("", "%s: %v", o.key, err)
	}
	return k, err
}

// secret returns the password or PIN of the key, from --password-file or the terminal. why is
// the reason for needing it.
func (o *signingOptions) secret(in io.Reader, w io.Writer, what, why string) ([]byte, error) {
	if o.password != "" {
		raw, err := strict.ReadFile(o.password, limits.Request)
		if err != nil {
			return nil, usageError("", "--password-file: %v", err)
		}
		return []byte(strings.TrimRight(string(raw), "\r\n")), nil
	}
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, usageError("--password-file FILE", "%s: %s, and there is no terminal to ask for the %s", o.key, why, what)
	}
	fmt.Fprintf(w, "%s of %s: ", what, o.key)
	defer fmt.Fprintln(w)
	return term.ReadPassword(int(f.Fd()))
}

// printPublicKey prints the public key of --key for those who verify.
func (o *signingOptions) printPublicKey(ctx context.Context, cmd *cobra.Command) error {
	if o.key == "" {
		return usageError("", "--public-key needs --key")
	}
	key, err := o.openKey(ctx, cmd.InOrStdin(), cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return pem.Encode(cmd.OutOrStdout(), &pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
