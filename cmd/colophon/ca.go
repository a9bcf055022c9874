package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/strict"
)

// maxCAFile is the limit of a file of certificate authorities, in bytes.
const maxCAFile = 16 << 20

// addCAFile gives all commands below root the flag --ca-file.
func addCAFile(root *cobra.Command) {
	var file string
	root.PersistentFlags().StringVar(&file, "ca-file", "", "certificate authorities to trust for TLS, a PEM `FILE`; in place of SSL_CERT_FILE")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if file == "" {
			return nil
		}
		return useCAs(file)
	}
}

// useCAs makes this process and its children trust the certificate authorities in a file.
// Nothing may have been verified before: Go reads the system's once.
func useCAs(file string) error {
	text, err := strict.ReadFile(file, maxCAFile)
	if err != nil {
		return usageError("", "--ca-file: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return usageError("", "--ca-file: %s has no certificate in PEM", file)
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	if runtime.GOOS != "linux" { // where Go asks the system, and not SSL_CERT_FILE
		if err := os.Setenv("GODEBUG", "x509usefallbackroots=1"); err != nil {
			return err
		}
		x509.SetFallbackRoots(pool)
	}
	return os.Setenv("SSL_CERT_FILE", file)
}
