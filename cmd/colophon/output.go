package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// replaceable fails unless a command can write a file to path, which a flag names. A link or a device at
// path is refused, because the file that the command writes would replace it. An empty path names no file.
func replaceable(flag, path, hint string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return usageError(hint, "%s: %s is not a regular file", flag, path)
	}
	return placeable(flag, path)
}

// placeable fails unless the directory of path exists. Commands ask before they begin, so that long work
// is not lost at its end.
func placeable(flag, path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return usageError("mkdir -p "+dir, "%s: there is no directory %s for %s", flag, dir, filepath.Base(path))
	case err == nil && !info.IsDir():
		return usageError("", "%s: %s is not a directory", flag, dir)
	}
	return nil
}

// output says in which form a command prints its answer. The answer goes to standard
// output; progress, warnings, questions and errors go to standard error.
type output struct {
	format string // of -o: text, json, yaml or template=TEMPLATE
	json   bool
	quiet  bool

	template *template.Template // of -o template=TEMPLATE
}

const templateFormat = "template="

func (o *output) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.format, "output", "o", "text", "`FORMAT` of the answer on standard output: text, json, yaml, or template=TEMPLATE, a Go template over the JSON")
	f.BoolVar(&o.json, "json", false, "short for -o json")
	cmd.MarkFlagsMutuallyExclusive("output", "json")
	cmd.PreRunE = func(*cobra.Command, []string) error { return o.check() }
	_ = cmd.RegisterFlagCompletionFunc("output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"text", "json", "yaml", templateFormat}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	})
}

// quietFlag adds -q. names says for the help what is printed then, and nothing else.
func (o *output) quietFlag(cmd *cobra.Command, names string) {
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print only "+names)
	cmd.MarkFlagsMutuallyExclusive("quiet", "output", "json")
}

// check parses the format before the command does anything.
func (o *output) check() error {
	if o.json {
		o.format = "json"
	}
	text, ok := strings.CutPrefix(o.format, templateFormat)
	switch {
	case ok:
		var err error
		o.template, err = template.New("TEMPLATE").Funcs(template.FuncMap{"json": templateJSON}).Parse(text)
		if err != nil {
			return usageError("for example -o template='{{json .}}', which prints the whole answer; pkg.go.dev/text/template describes the language", "--output: %s", strings.TrimPrefix(err.Error(), "template: "))
		}
	case o.format != "text" && o.format != "json" && o.format != "yaml":
		return usageError("", "--output: expected text, json, yaml or template=TEMPLATE, found %q", o.format)
	}
	return nil
}

// text reports whether the answer is text for people.
func (o *output) text() bool { return o.format == "text" && !o.quiet }

// print prints v in a form for programs.
func (o *output) print(w io.Writer, v any) error {
	raw, err := encodeJSON(v)
	if err != nil {
		return err
	}
	switch {
	case o.template != nil:
		if raw, err = o.execute(raw); err != nil {
			return err
		}
	case o.format == "yaml":
		if raw, err = yamlOf(raw); err != nil {
			return err
		}
	}
	_, err = w.Write(raw)
	return err
}

// execute runs the template over the JSON document, so that members have the names
// that they have there.
func (o *output) execute(raw []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // a float64 cannot hold every log index
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := o.template.Execute(&out, v); err != nil {
		what := err.Error()
		if failed, ok := errors.AsType[template.ExecError](err); ok {
			what = failed.Err.Error()
		}
		return nil, &exitError{code: exitFailure, msg: "--output: " + strings.TrimPrefix(what, "template: "), hint: "see the members that there are: -o json"}
	}
	// A script must not take the word for a missing member as a value.
	if none := []byte("<no value>"); bytes.Contains(out.Bytes(), none) && !bytes.Contains(raw, none) {
		return nil, &exitError{code: exitFailure, msg: "--output: the answer lacks a member that the template prints", hint: "see the members that there are: -o json; for one that may be absent: {{with .NAME}}{{.}}{{end}}"}
	}
	if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// templateJSON is the template function json.
func templateJSON(v any) (string, error) {
	raw, err := encodeJSON(v)
	return strings.TrimSuffix(string(raw), "\n"), err
}

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	err := printJSON(&b, v)
	return b.Bytes(), err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// yamlOf turns JSON into YAML with the members in the same order. JSON is YAML, except
// for its layout.
func yamlOf(raw []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("YAML: %w", err)
	}
	var block func(*yaml.Node)
	block = func(n *yaml.Node) {
		n.Style = 0
		for _, c := range n.Content {
			block(c)
		}
	}
	block(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(&doc)
	return out.Bytes(), err
}
