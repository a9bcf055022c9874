package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/report"
)

// reportFormats maps the format names of verify --report to their writers.
var reportFormats = map[string]func([]*verify.Verdict) ([]byte, error){
	"sarif": func(verdicts []*verify.Verdict) ([]byte, error) { return report.SARIF(verdicts, version) },
	"junit": report.JUnit,
}

// checkReports refuses an invalid --report before anything is done. It also refuses a path that
// is a device or a link, which writing would replace. formats maps the format names to the
// writers of what is reported.
func checkReports[T any](reports []string, formats map[string]func(T) ([]byte, error)) error {
	for _, r := range reports {
		format, path, ok := strings.Cut(r, "=")
		if _, known := formats[format]; !ok || !known || path == "" {
			names := slices.Sorted(maps.Keys(formats))
			return usageError("", "--report: expected %s=FILE, found %q", strings.Join(names, "=FILE or "), r)
		}
		if err := replaceable("--report", path, ""); err != nil {
			return err
		}
	}
	return nil
}

// writeReports writes each report about something atomically.
func writeReports[T any](reports []string, formats map[string]func(T) ([]byte, error), about T) error {
	for _, r := range reports {
		format, path, _ := strings.Cut(r, "=")
		data, err := formats[format](about)
		if err == nil {
			err = durable.WriteFile(path, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("report %s: %w", path, err)
		}
	}
	return nil
}
