// Command sigstore speaks the command line of the Sigstore client conformance
// suite (sigstore/sigstore-conformance, docs/cli_protocol.md), so that the
// suite can run against package bundle:
//
//	sigstore sign-bundle [--staging] [--in-toto] --identity-token TOKEN --bundle FILE [--trusted-root FILE] [--signing-config FILE] ARTIFACT
//	sigstore verify-bundle [--staging] --bundle FILE (--certificate-identity ID --certificate-oidc-issuer URL | --key FILE) [--trusted-root FILE] ARTIFACT|sha256:DIGEST
//
// Exit code 0 is success, 1 a refusal or a failure, 2 misuse.
package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
	publics "github.com/colophon-build/colophon/trust/tuf"
)

// options are the flags of both commands.
type options struct {
	staging                        bool
	bundle, trustedRoot            string
	identity, issuer, key          string // verify-bundle
	token, signingConfig, artifact string // sign-bundle, but for artifact
	statement                      bool   // sign-bundle: the artifact is an in-toto statement
}

var errUsage = errors.New("want sign-bundle or verify-bundle, its flags, and one artifact")

func main() {
	err := run(context.Background(), os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.staging, "staging", false, "use Sigstore's staging instance; needs network, and is not asked where roots are given")
	f.StringVar(&o.bundle, "bundle", "", "bundle to write or verify")
	f.StringVar(&o.trustedRoot, "trusted-root", "", "trusted root, in place of the public instance's")
	work := verifyBundle
	switch args[0] {
	case "verify-bundle":
		f.StringVar(&o.identity, "certificate-identity", "", "expected name of the certificate")
		f.StringVar(&o.issuer, "certificate-oidc-issuer", "", "expected issuer")
		f.StringVar(&o.key, "key", "", "PEM file of the expected key, in place of a certificate")
	case "sign-bundle":
		work = signBundle
		f.StringVar(&o.token, "identity-token", "", "OIDC token of the signer")
		f.BoolVar(&o.statement, "in-toto", false, "the artifact is an in-toto statement, to be signed in an envelope")
		f.StringVar(&o.signingConfig, "signing-config", "", "signing config, in place of the public instance's")
	default:
		return errUsage
	}
	if err := f.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.NArg() != 1 || o.bundle == "" {
		return errUsage
	}
	o.artifact = f.Arg(0)
	return work(ctx, o)
}

func verifyBundle(_ context.Context, o options) error {
	signer := bundle.Signer{Identity: o.identity, Issuer: o.issuer}
	if o.key != "" {
		if o.identity != "" || o.issuer != "" {
			return errors.New("--key and a certificate's identity exclude each other")
		}
		key, err := readKey(o.key)
		if err != nil {
			return err
		}
		signer = bundle.Signer{Key: key}
	}
	material, err := o.material()
	if err != nil {
		return err
	}
	if signer.Key != nil { // the suite names the one trust root that counts, and a key needs no log if it has none
		signer.InsecureNoLog = len(material.RekorLogs()) == 0
	}
	raw, err := read(o.bundle, limits.Bundle)
	if err != nil {
		return err
	}
	subject, err := openSubject(o.artifact)
	if err != nil {
		return err
	}
	_, err = bundle.Artifact(raw, subject, signer, material, time.Now())
	return err
}

func (o options) material() (root.TrustedMaterial, error) {
	var raw []byte
	var err error
	switch {
	case o.trustedRoot != "":
		if raw, err = read(o.trustedRoot, limits.TrustRoot); err != nil {
			return nil, err
		}
	case o.staging:
		staging, err := root.FetchTrustedRootWithOptions(stagingOptions())
		if err != nil {
			return nil, err
		}
		if raw, err = staging.MarshalJSON(); err != nil {
			return nil, err
		}
	default: // the built-in copy, so that verifying needs no network
		public, _ := publics.Named("sigstore")
		copied, err := public.Copy()
		if err != nil {
			return nil, err
		}
		raw = copied.Raw
	}
	if o.key != "" {
		return trust.ParseMaterial(raw)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		return nil, err
	}
	if o.issuer != "" && len(r.Issuers()) == 0 {
		// The suite names root and issuer together.
		if r, err = r.ForIssuers([]string{o.issuer}); err != nil {
			return nil, err
		}
	}
	return r.Material, nil
}

func stagingOptions() *tuf.Options {
	return tuf.DefaultOptions().WithRoot(tuf.StagingRoot()).WithRepositoryBaseURL(tuf.StagingMirror)
}

var digestRE = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// openSubject takes a digest where nothing on disk has that name.
func openSubject(artifact string) (bundle.Subject, error) {
	f, err := os.Open(artifact)
	if errors.Is(err, os.ErrNotExist) && digestRE.MatchString(artifact) {
		h, err := v1.NewHash(artifact)
		return bundle.Subject{Digest: h}, err
	}
	if err != nil {
		return bundle.Subject{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return bundle.Subject{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return bundle.Subject{}, err
	}
	return bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, Content: f}, nil
}

func readKey(path string) (crypto.PublicKey, error) {
	raw, err := read(path, limits.Request)
	if err != nil {
		return nil, err
	}
	return cryptoutils.UnmarshalPEMToPublicKey(raw)
}

func read(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := strict.Read(f, most)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, nil
}
