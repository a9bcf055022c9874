package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
)

// signBundle signs the artifact's bytes with a key of its own and a certificate
// for the token, and writes the bundle once it verifies against the trusted root.
func signBundle(ctx context.Context, o options) error {
	content, err := os.ReadFile(o.artifact)
	if err != nil {
		return err
	}
	config, err := o.services()
	if err != nil {
		return err
	}
	material, err := o.material()
	if err != nil {
		return err
	}
	key, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		return err
	}
	opts := sign.BundleOptions{TrustedRoot: material, Context: ctx, CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: o.token}}
	now := time.Now()
	ca, err := root.SelectService(config.FulcioCertificateAuthorityURLs(), sign.FulcioAPIVersions, now)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	opts.CertificateProvider = sign.NewFulcio(&sign.FulcioOptions{BaseURL: ca.URL, Timeout: 30 * time.Second, Retries: 1})
	logs, err := root.SelectServices(config.RekorLogURLs(), config.RekorLogURLsConfig(), sign.RekorAPIVersions, now)
	if err != nil {
		return fmt.Errorf("transparency log: %w", err)
	}
	for _, l := range logs {
		opts.TransparencyLogs = append(opts.TransparencyLogs, sign.NewRekor(&sign.RekorOptions{BaseURL: l.URL, Timeout: 90 * time.Second, Retries: 1, Version: l.MajorAPIVersion}))
	}
	if len(config.TimestampAuthorityURLs()) > 0 {
		clocks, err := root.SelectServices(config.TimestampAuthorityURLs(), config.TimestampAuthorityURLsConfig(), sign.TimestampAuthorityAPIVersions, now)
		if err != nil {
			return fmt.Errorf("timestamp authority: %w", err)
		}
		for _, c := range clocks {
			opts.TimestampAuthorities = append(opts.TimestampAuthorities, sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: c.URL, Timeout: 30 * time.Second, Retries: 1}))
		}
	}
	var data sign.Content = &sign.PlainData{Data: content}
	if o.statement {
		if _, err := attest.ParseAnyStatement(content); err != nil {
			return err
		}
		data = &sign.DSSEData{Data: content, PayloadType: attest.PayloadType}
	}
	pb, err := sign.Bundle(data, key, opts)
	if err != nil {
		return err
	}
	raw, err := protojson.Marshal(pb)
	if err != nil {
		return err
	}
	return durable.WriteFile(o.bundle, raw, 0o644)
}

func (o options) services() (*root.SigningConfig, error) {
	switch {
	case o.signingConfig != "":
		return root.NewSigningConfigFromPath(o.signingConfig)
	case o.staging:
		return root.FetchSigningConfigWithOptions(stagingOptions())
	}
	return root.FetchSigningConfig()
}
