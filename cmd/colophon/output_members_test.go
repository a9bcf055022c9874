package main

import (
	"errors"
	"strings"
	"testing"
)

// TestTemplateFits: a template that names a member which no answer has is refused, and none that may print.
func TestTemplateFits(t *testing.T) {
	one, many := releaseOptions{image: "r.example.com/app"}, releaseOptions{}
	for _, tt := range []struct {
		o              releaseOptions
		template, want string
	}{
		{one, "{{.image}}@{{.digest}}{{range .tags}} {{.}}{{end}}", ""},
		{one, "{{with .files}}{{range .}}{{.name}}{{end}}{{else}}{{.image}}{{end}}", ""},
		{one, "{{range $i, $f := .files}}{{$f.nosuch}}{{$.image}}{{end}}", ""}, // the type of a variable is not known
		{one, "{{with index .files 0}}{{.nosuch}}{{end}}{{.started.nosuch}}", ""},
		{one, `{{define "x"}}{{.nosuch}}{{end}}{{template "x" .source}}{{json .}}`, ""},
		{one, "", ""},
		{one, "{{.outcome}}", "the answer has no member .outcome"},
		{one, "{{if .outcome}}{{end}}", "the answer has no member .outcome"},
		{one, "{{.Image}}", "the answer has no member .Image"},
		{one, "{{.source.nosuch}}", ".source has no member .nosuch"},
		{one, "{{.image.nosuch}}", ".image has no member .nosuch"},
		{one, "{{range .requirements}}{{.nosuch}}{{end}}", "inside range or with, {{.}} has no member .nosuch"},
		{one, "{{range .files}}{{$.nosuch}}{{end}}", "the answer has no member .nosuch"},
		{one, "{{json .nosuch | printf `%s`}}", "the answer has no member .nosuch"},
		{one, "{{(index .files .nosuch).name}}", "the answer has no member .nosuch"},
		{one, `{{template "x" .nosuch}}{{define "x"}}{{end}}`, "the answer has no member .nosuch"},
		{many, "{{range .}}{{.image}}{{with .error}}{{.message}}{{end}}{{end}}", ""},
		{many, "{{.image}}", "the answer is a list, and has no member .image"},
		{many, "{{range .}}{{.outcome}}{{end}}", "no member .outcome"},
	} {
		tt.o.output.format = templateFormat + tt.template
		if err := tt.o.output.check(); err != nil {
			t.Fatal(err)
		}
		err := tt.o.checkTemplate()
		if exit, _ := errors.AsType[*exitError](err); tt.want == "" && err != nil || tt.want != "" && (exit == nil || exit.code != exitUsage || !strings.Contains(exit.msg, tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.template, err, tt.want)
		}
	}
}
