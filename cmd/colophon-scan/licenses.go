package main

import (
	"context"
	_ "unsafe" // go:linkname

	"github.com/anchore/syft/syft/cataloging"
	"github.com/google/licensecheck"
)

// classifyTexts returns a context with which Syft finds the licenses that a text is. The tables
// for it take 0.7 seconds of processor time to make, more than the rest of most scans. With the
// scanner that Syft makes, each scan pays for them; with this one, only a scan that meets a text.
func classifyTexts(ctx context.Context) (context.Context, error) {
	s, err := newLicenseScanner(&licenseScannerConfig{cataloging.DefaultLicenseConfig().Coverage, licensecheck.Scan})
	return withLicenseScanner(ctx, s), err
}

// Syft has both functions in an internal package (syft/internal/licenses, scanner.go and
// context.go) and none outside it that does not make the tables. The version of Syft is pinned, and
// TestClassifyTexts compares the licenses with those that Syft finds itself.

//go:linkname newLicenseScanner github.com/anchore/syft/internal/licenses.NewScanner
func newLicenseScanner(*licenseScannerConfig) (licenseScanner, error)

//go:linkname withLicenseScanner github.com/anchore/syft/internal/licenses.SetContextLicenseScanner
func withLicenseScanner(context.Context, licenseScanner) context.Context

// licenseScannerConfig is ScannerConfig of that package.
type licenseScannerConfig struct {
	coverageThreshold float64 // percent
	scanner           func([]byte) licensecheck.Coverage
}

// licenseScanner is Scanner of that package. Its one method has a type that has no name here, so
// nothing calls it.
type licenseScanner interface{ FindEvidence() }
