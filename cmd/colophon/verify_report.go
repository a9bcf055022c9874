package main

import (
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/report"
)

// reportFormats maps the format names of --report to their writers.
var reportFormats = map[string]func([]*verify.Verdict) ([]byte, error){
	"sarif": func(verdicts []*verify.Verdict) ([]byte, error) { return report.SARIF(verdicts, version) },
	"junit": report.JUnit,
}

// checkReports refuses an invalid --report before anything is verified. It also
// refuses a path that is a device or a link, which writing would replace.
func checkReports(reports []string) error {
	for _, r := range reports {
		format, path, ok := strings.Cut(r, "=")
		if _, known := reportFormats[format]; !ok || !known || path == "" {
			return usageError("", "--report: expected sarif=FILE or junit=FILE, found %q", r)
		}
		if err := replaceable("--report", path, ""); err != nil {
			return err
		}
	}
	return nil
}

// writeReports writes each report atomically.
func writeReports(reports []string, verdicts []*verify.Verdict) error {
	for _, r := range reports {
		format, path, _ := strings.Cut(r, "=")
		data, err := reportFormats[format](verdicts)
		if err == nil {
			err = durable.WriteFile(path, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("report %s: %w", path, err)
		}
	}
	return nil
}
