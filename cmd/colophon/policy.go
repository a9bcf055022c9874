package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "write policies, and check what they say; what a policy file demands",
		Long: `A policy says what you demand of images. "colophon policy init IMAGE" writes one, and
"colophon policy check FILE" finds its faults; "test", "explain" and "diff" say what it
decides about images. A policy of version 2 is a set of rules
about images, as YAML or JSON, and an object of Kubernetes at the same time: spec/policy
describes it.

A file may have ClusterImagePolicies and TrustRoots of Sigstore's policy-controller, too.

"colophon verify --policy FILE" and "colophon copy --policy FILE" also read policies of
version 1, which demand the same of every image, and the flags of verify make one. It is
one JSON object:

` + examplePolicy + policyMembers,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyInitCommand(), newPolicyCheckCommand(), newPolicyTestCommand(), newPolicyExplainCommand(), newPolicyDiffCommand(), newPolicyConvertCommand(), newPolicySignCommand(), newPolicyTrustCommand())
	return cmd
}

func newPolicyCheckCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "find faults in policy files",
		Long: `Check reads policy files as everything reads them that decides about images, and says
what is wrong, with file, line and column. A file that is no policy is an error (exit
code 2). Of a valid policy, check finds what it cannot mean (exit code 3):

  rules that no image satisfies, or two rules that none satisfies together
  signers that are anybody: patterns that strangers meet
  globs that match no image, or other registries, too
  exemptions that ended, or that exempt every image
  rules that are always undecided

It also notes what is worth knowing, and no fault: dangerous options, exemptions that end
within 30 days, and rules that refuse nothing, or not yet.

Exit codes: 0 no fault, 3 a policy says what it cannot mean, 2 a file is no policy, or
cannot be read.`,
		Example: `  colophon policy check policy.yaml
  colophon policy check deploy/policies/*.yaml --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runPolicyCheck(cmd, args, o, time.Now()) },
	}
	o.flags(cmd)
	return cmd
}

// policyFinding is a finding in the answer of policy check for programs.
type policyFinding struct {
	File string `json:"file"`
	policy.Finding
}

func runPolicyCheck(cmd *cobra.Command, files []string, o output, now time.Time) error {
	found, faults := []policyFinding{}, 0
	for _, file := range files {
		raw, err := readPolicy(cmd.InOrStdin(), file)
		if err != nil {
			return err
		}
		findings, err := lintPolicyFile(raw, now)
		if err != nil {
			return usageError("spec/policy describes the format", "%v", strict.In(file, err))
		}
		for _, f := range findings {
			found = append(found, policyFinding{file, f})
			if f.Wrong {
				faults++
			}
		}
	}
	out := cmd.OutOrStdout()
	if !o.text() {
		if err := o.print(out, found); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			printFinding(out, f)
		}
		fmt.Fprintf(out, "%s, %s\n", printable.Count(len(files), "policy file"), printable.Count(faults, "fault"))
	}
	if faults > 0 {
		return &exitError{code: exitRejected}
	}
	return nil
}

// lintPolicyFile returns the findings about sets of rules, then those about documents of
// policy-controller.
func lintPolicyFile(raw []byte, now time.Time) ([]policy.Finding, error) {
	theirs, err := clusterimagepolicy.Lint(raw)
	if err != nil {
		return nil, err
	}
	ours, err := policy.LintBeside(raw, now, clusterimagepolicy.Of)
	return append(ours, theirs...), err
}

func printFinding(w io.Writer, f policyFinding) {
	mark := paint(w, yellow, "note:")
	if f.Wrong {
		mark = paint(w, red, "fault:")
	}
	rule := ""
	if f.Rule != "" {
		rule = fmt.Sprintf("rule %q: ", f.Rule)
	}
	fmt.Fprintf(w, "%s:%d:%d: %s %s%s\n", printable.Text(f.File), f.Line, f.Column, mark, printable.Text(rule), printable.Text(f.What))
}

// readPolicy reads a policy file, or standard input.
func readPolicy(in io.Reader, file string) (raw []byte, err error) {
	if file == stdin {
		raw, err = strict.Read(in, limits.Request)
	} else {
		raw, err = strict.ReadFile(file, limits.Request)
	}
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	return raw, nil
}
