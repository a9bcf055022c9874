package usage

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func program(ran *bool) *cobra.Command {
	root := &cobra.Command{Use: "tool", SilenceErrors: true, SilenceUsage: true}
	build := &cobra.Command{Use: "build IMAGE", SuggestFor: []string{"make"}, Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { *ran = true; return nil }}
	f := build.Flags()
	f.String("source", "", "")
	f.String("ref", "", "")
	f.Bool("json", false, "")
	f.BoolP("quiet", "q", false, "")
	f.Duration("timeout", time.Second, "")
	f.Int("level", 0, "")
	f.String("identity", "", "")
	f.String("issuer", "", "")
	f.Func("input", "", func(s string) error { return errors.New("expected NAME=VALUE, found " + s) })
	f.StringSlice("inputs", nil, "")
	build.MarkFlagRequired("ref")
	build.MarkFlagsMutuallyExclusive("json", "quiet")
	build.MarkFlagsRequiredTogether("identity", "issuer")
	f.String("file", "", "")
	f.String("all", "", "")
	build.MarkFlagsOneRequired("source", "file", "all", "identity", "json", "quiet")
	sub := &cobra.Command{Use: "list", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { *ran = true; return nil }}
	group := &cobra.Command{Use: "trust"}
	group.AddCommand(sub)
	root.AddCommand(build, group, NewExitCodes())
	root.PersistentFlags().String("ca-file", "", "")
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	Translate(root)
	return root
}

// TestWords: each kind of wrong command line, in words of the command.
func TestWords(t *testing.T) {
	for args, want := range map[string]string{
		"biuld":                        `tool has no command "biuld"; did you mean build?`,
		"build -json --ref x a":        `tool build has no flag -j; did you mean --json?`,
		"nonsense":                     `tool has no command "nonsense"`,
		"biuld a --ref x":              `tool has no command "biuld"; did you mean build?`,
		"make --ref x":                 `tool has no command "make"; did you mean build?`,
		"--ca-file x biuld --ref=x":    `tool has no command "biuld"; did you mean build?`,
		"trust lst --json":             `tool trust has no command "lst"; did you mean list?`,
		"trust --json lst":             `tool trust has no flag --json`,
		"biuld --help":                 `tool has no command "biuld"; did you mean build?`,
		"trust lst -h":                 `tool trust has no command "lst"; did you mean list?`,
		"help biuld":                   `tool has no command "biuld"; did you mean build?`,
		"help trust lst":               `tool trust has no command "lst"; did you mean list?`,
		"help build x":                 `tool build has no command "x"`,
		"help exit-code":               `tool has no command "exit-code"; did you mean exit-codes?`,
		"completion bsh":               `tool completion has no command "bsh"; did you mean bash?`,
		"completion bash x":            `tool completion bash takes no argument, found "x"`,
		"trust lst":                    `tool trust has no command "lst"; did you mean list?`,
		"build":                        "tool build: expected IMAGE, found nothing",
		"build a b --ref x":            "tool build: expected IMAGE, found a b",
		"trust list x":                 `tool trust list takes no argument, found "x"`,
		"build a --sorce x":            "tool build has no flag --sorce; did you mean --source?",
		"build a --nonsense":           "tool build has no flag --nonsense",
		"build a -z":                   "tool build has no flag -z",
		"build a --ref":                "--ref needs a value",
		"build a --ref=":               "--ref needs a value, found an empty one",
		"build a --ref x --inputs=":    "--inputs needs a value, found an empty one",
		"build a --ref x --input=":     "--input needs a value, found an empty one",
		"trust list --ca-file=":        "--ca-file needs a value, found an empty one",
		"build a":                      "--ref is required",
		"build a --ref x --timeout x":  `--timeout: expected a duration such as 30s or 5m, found "x"`,
		"build a --ref x --level x":    `--level: expected a whole number, found "x"`,
		"build a --ref x --json=x":     `--json: expected true or false, found "x"`,
		"build a --ref x --input y":    "--input: expected NAME=VALUE, found y",
		"build a --ref x --json -q":    "--json and --quiet exclude each other",
		"build a --ref x --identity a": "--identity also needs --issuer",
		"build a --ref x":              "--source or --file or --all or --identity or --json or --quiet is required",
		"build a --ref x --=y":         "--=y is not a flag",
	} {
		ran := false
		root := program(&ran)
		root.SetArgs(strings.Fields(args))
		err := root.Execute()
		wrong, ok := errors.AsType[*Error](err)
		if !ok || wrong.Message != want || !strings.HasSuffix(wrong.Hint, " --help") || ran {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
	for _, args := range []string{"build a --ref x -q", "trust list", "build a --ref x --identity a --issuer b"} {
		ran := false
		root := program(&ran)
		root.SetArgs(strings.Fields(args))
		if err := root.Execute(); err != nil || !ran {
			t.Errorf("%s: got %v", args, err)
		}
	}
	ran := false
	root := program(&ran)
	AddVersion(root, "v1.2.3")
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"--version"})
	if err := root.Execute(); err != nil || !strings.HasPrefix(out.String(), "tool v1.2.3 go") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("--version: got %q, %v", &out, err)
	}
	for _, args := range []string{"", "trust", "build --help", "help", "help build", "help trust list", "help exit-codes", "completion", "completion bash"} {
		ran := false
		root := program(&ran)
		root.SetArgs(strings.Fields(args))
		if err := root.Execute(); err != nil {
			t.Errorf("%q: got %v, want help", args, err)
		}
	}
}
