package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy/convert"
)

type policyConvertOptions struct {
	output
	to convert.Options

	format string
}

func newPolicyConvertCommand() *cobra.Command {
	var o policyConvertOptions
	cmd := &cobra.Command{
		Use:   "convert FILE",
		Short: "turn policies into those of other admission controllers, and theirs into ours",
		Long: `Convert reads a policy file and prints what it demands in another format:

  colophon             policies of version 2, which this program reads
  clusterimagepolicy   ClusterImagePolicies of Sigstore's policy-controller
  kyverno              ImageValidatingPolicies of Kyverno

The file has policies of ours, of version 1 or 2, or ClusterImagePolicies, with the
TrustRoots that they name. FILE is "-" for standard input.

Convert lists on standard error what the other format cannot say. Where the result is
stricter than the original, it is printed nevertheless. Where it is weaker, so that it
accepts images that the original refuses, nothing is printed and the exit code is 3:
--lossy prints it with the list on top. Where signatures are stored, and in which format, is
not compared: it is who signed what.

Exit codes: 0 printed, 3 the other format is weaker, 2 the file is no policy or a usage
error, 1 failure.`,
		Example: `  colophon policy convert policy.yaml --to clusterimagepolicy
  colophon policy convert policy.yaml --to kyverno --lossy | kubectl apply -f -
  colophon policy convert cluster-image-policies.yaml --name production > policy.yaml
  colophon policy convert policy-of-version-1.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.to.Now = time.Now()
			return runPolicyConvert(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "to", string(convert.Colophon), "`FORMAT` of the result: colophon, clusterimagepolicy or kyverno")
	f.BoolVar(&o.to.Lossy, "lossy", false, "dangerous: print the result even if it accepts images that the original refuses")
	f.StringVar(&o.to.Name, "name", "policy", "name of the policy, as Kubernetes names objects, if the file has no policy of version 2")
	f.StringToStringVar(&o.to.Roots, "trust-root", nil, "`NAME=ROOT`: what the TrustRoot NAME of a ClusterImagePolicy is called here, as trust list prints it (repeatable)")
	f.Lookup("trust-root").DefValue = "" // hides the "[]" of pflag
	f.StringVar(&o.to.Owner, "exempt-owner", "", "who answers for the images that a ClusterImagePolicy accepts without evidence: they become exempt")
	f.StringVar(&o.to.Until, "exempt-until", "", "`DATE` at which they are exempt no more, as in 2027-03-31")
	cmd.MarkFlagsRequiredTogether("exempt-owner", "exempt-until")
	o.flags(cmd)
	return cmd
}

// policyConverted is the answer of policy convert for programs.
type policyConverted struct {
	To        convert.Format `json:"to"`
	Weaker    bool           `json:"weaker"`              // the result accepts images that the original refuses
	Documents []any          `json:"documents,omitempty"` // none, if it is weaker and may not be
	Losses    []convert.Loss `json:"losses"`
}

func runPolicyConvert(cmd *cobra.Command, file string, o policyConvertOptions) error {
	raw, err := readPolicy(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	to := convert.Format(o.format)
	got, err := convert.Convert(raw, to, o.to)
	switch {
	case errors.Is(err, convert.ErrSame):
		return usageError("say which format you want: --to clusterimagepolicy, --to kyverno or --to colophon", "%s is of the format %s already", file, to)
	case err != nil:
		return usageError("", "%v", strict.In(file, err))
	}
	refused := got.Weaker() && !o.to.Lossy
	out := cmd.OutOrStdout()
	switch {
	case !o.text():
		answer := policyConverted{to, got.Weaker(), got.Documents, got.Losses}
		if refused {
			answer.Documents = nil
		}
		if answer.Losses == nil {
			answer.Losses = []convert.Loss{}
		}
		err = o.print(out, answer)
	case !refused:
		err = printConverted(out, got)
	}
	if err != nil {
		return err
	}
	if o.text() {
		printLosses(cmd.ErrOrStderr(), got.Losses)
	}
	if refused {
		return &exitError{code: exitRejected, msg: "not converted: the result would accept images that the original refuses", hint: "read what is weaker; --lossy prints the result nevertheless"}
	}
	return nil
}

// printConverted prints the documents as YAML, and on top what is weaker, so that whoever reads
// the file later knows.
func printConverted(w io.Writer, got *convert.Result) error {
	text, err := got.YAML()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if got.Weaker() {
		out.WriteString("# This policy accepts images that the one from which it was converted refuses:\n")
	}
	for _, l := range got.Losses {
		if l.Weaker {
			fmt.Fprintf(&out, "#   %s\n", printable.Text(l.String()))
		}
	}
	out.Write(text)
	_, err = w.Write(out.Bytes())
	return err
}

func printLosses(w io.Writer, all []convert.Loss) {
	for _, l := range all {
		mark := paint(w, yellow, "stricter:")
		if l.Weaker {
			mark = paint(w, red, "weaker:")
		}
		fmt.Fprintf(w, "%s %s\n", mark, printable.Text(l.String()))
	}
}
