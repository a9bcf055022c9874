package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

func newPolicyTestCommand() *cobra.Command {
	var o decideOptions
	cmd := &cobra.Command{
		Use:   "test FILE [IMAGE…]",
		Short: "say what a policy decides about images",
		Long: `Test says what a policy decides about images: what admission would say, without a
cluster. It reads the images in their registries, with the trust roots and the time of
this machine. With -f it asks about all images of a Kubernetes manifest, of the output of
kubectl and Helm, of a compose file, or of a list.

Of an image that is not accepted, it prints the rule and why, and where the file names the
image. A violation of a rule whose mode is audit or warn is a warning. A policy of one
namespace (NamespacedImagePolicy) counts for the images there. A ClusterImagePolicy with
"match" is about some workloads only: -f says which ones run the image. If the answer
depends on the workload, an image has several.

Exit codes: 0 all accepted, 3 one rejected, 4 one undecided (and none rejected), 2 usage
error, 1 failure.`,
		Example: `  colophon policy test policy.yaml registry.example.com/team/app:v1.2.0
  helm template shop ./chart | colophon policy test policy.yaml -f -
  kubectl get pods -A -o json | colophon policy test policy.yaml -f - --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.now = time.Now()
			return runPolicyTest(cmd, args[0], args[1:], o)
		},
	}
	o.flags(cmd)
	return cmd
}

func runPolicyTest(cmd *cobra.Command, file string, images []string, o decideOptions) error {
	sets, err := readSets(cmd.Context(), cmd.InOrStdin(), file, o.now)
	if err != nil {
		return err
	}
	questions, err := o.questions(cmd, images)
	if err != nil {
		return err
	}
	d, err := o.decider(cmd, sets)
	if err != nil {
		return err
	}
	all, worst := []*answered{}, verify.Accepted
	var count [3]int
	for _, answers := range d.decideAll(cmd.Context(), questions, o.many.parallel, sets) {
		all = append(all, answers[0])
		count[answers[0].Decision.Outcome]++
		worst = worse(worst, answers[0].Decision.Outcome)
	}
	out := cmd.OutOrStdout()
	if !o.output.text() {
		return exitWith(worst, o.output.print(out, all))
	}
	for _, a := range all {
		printDecision(out, a)
	}
	fmt.Fprintf(out, "\n%s: %d accepted, %d rejected, %d undecided\n", printable.Count(len(all), "image"), count[verify.Accepted], count[verify.Rejected], count[verify.Undecided])
	return exitWith(worst, nil)
}

func newPolicyExplainCommand() *cobra.Command {
	var o decideOptions
	var file string
	cmd := &cobra.Command{
		Use:   "explain IMAGE --policy FILE",
		Short: "say which rule and which fact decide about an image",
		Long: `Explain says of each rule that is about an image what it decides, and why: its mode,
an exemption, each alternative with the chain of facts that was verified for it, and each
condition. It decides as "colophon policy test" does, and has its exit codes.`,
		Example: `  colophon policy explain registry.example.com/team/app:v1.2.0 --policy policy.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.now, o.many.parallel = time.Now(), 1
			if file == "" {
				return usageError("", "--policy is required: which policy should be explained?")
			}
			return runPolicyExplain(cmd, args[0], file, o)
		},
	}
	cmd.Flags().StringVar(&file, "policy", "", "policy `FILE`; required")
	o.commonFlags(cmd)
	return cmd
}

func runPolicyExplain(cmd *cobra.Command, image, file string, o decideOptions) error {
	sets, err := readSets(cmd.Context(), cmd.InOrStdin(), file, o.now)
	if err != nil {
		return err
	}
	questions, err := o.questions(cmd, []string{image})
	if err != nil {
		return err
	}
	d, err := o.decider(cmd, sets)
	if err != nil {
		return err
	}
	a := d.decide(cmd.Context(), questions[0], sets)[0][0] // nothing says what runs it
	out := cmd.OutOrStdout()
	if !o.output.text() {
		return exitWith(a.Decision.Outcome, o.output.print(out, a))
	}
	printDecision(out, a)
	for _, r := range a.Decision.Rules {
		explainRule(out, r)
	}
	return exitWith(a.Decision.Outcome, nil)
}

func explainRule(w io.Writer, r verify.RuleDecision) {
	mark := outcomeMark(r.Outcome)
	fmt.Fprintf(w, "\n%s rule %q of policy %q: %s, mode %s\n", paint(w, mark[0], mark[1]), r.Rule, r.Policy, r.Outcome, r.Mode)
	if r.EnforceFrom != nil {
		fmt.Fprintf(w, "    enforced from %s\n", r.EnforceFrom.Format(time.RFC3339))
	}
	if r.OnRunning == policy.EvictRunning {
		fmt.Fprintln(w, "    a running pod whose image it rejects is evicted")
	}
	if e := r.Exemption; e != nil {
		word := "exempt until"
		if e.Ended {
			word = "was exempt until"
		}
		fmt.Fprintf(w, "    %s %s, by %s: %s\n", word, e.Until.Format(time.DateOnly), printable.Text(e.Owner), printable.Text(e.Reason))
	}
	for i, a := range r.Alternatives {
		fmt.Fprintf(w, "    alternative %d: %s\n", i+1, a.Outcome)
		if a.Verdict != nil {
			printLinks(w, "      ", a.Verdict.Links, nil)
		}
		for _, c := range a.Conditions {
			mark := outcomeMark(c.Outcome)
			fmt.Fprintf(w, "      %s condition %s", paint(w, mark[0], mark[1]), printable.Text(c.Expression))
			if c.Outcome != verify.Accepted {
				fmt.Fprintf(w, ": %s %s", printable.Text(c.Message), printable.Text(c.Reason))
			}
			fmt.Fprintln(w)
		}
	}
	if len(r.Alternatives) == 0 && r.Reason != "" {
		fmt.Fprintf(w, "    %s\n", printable.Text(r.Reason))
	}
}

func newPolicyDiffCommand() *cobra.Command {
	var o decideOptions
	cmd := &cobra.Command{
		Use:   "diff OLD NEW [IMAGE…]",
		Short: "say which images a change of a policy would newly refuse or accept",
		Long: `Diff reads each image once, and says where two policies decide otherwise about it:
what the new one would newly refuse, accept, leave undecided or warn about. Images about
which both decide alike are only counted, but for those that could not be read. Name images,
or with -f files that name them, as of "colophon policy test".

Exit codes: 0 the new policy refuses nothing but what the old one refused, 3 it does, 4 it
leaves some of that undecided (and refuses none), 2 usage error, 1 failure.`,
		Example: `  colophon policy diff policy.yaml policy.new.yaml -f images.txt
  kubectl get pods -A -o json | colophon policy diff policy.yaml policy.new.yaml -f -`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.now = time.Now()
			return runPolicyDiff(cmd, args, o)
		},
	}
	o.flags(cmd)
	return cmd
}

// changed is an image about which two policies decide otherwise, for programs.
type changed struct {
	Change string    `json:"change"` // newly rejected, accepted, undecided or warned; still undecided; no longer warned
	Old    *answered `json:"old"`
	New    *answered `json:"new"`
}

func runPolicyDiff(cmd *cobra.Command, args []string, o decideOptions) error {
	before, err := readSets(cmd.Context(), cmd.InOrStdin(), args[0], o.now)
	if err != nil {
		return err
	}
	after, err := readSets(cmd.Context(), cmd.InOrStdin(), args[1], o.now)
	if err != nil {
		return err
	}
	questions, err := o.questions(cmd, args[2:])
	if err != nil {
		return err
	}
	d, err := o.decider(cmd, before, after)
	if err != nil {
		return err
	}
	list, worst := []changed{}, verify.Accepted
	answers := d.decideAll(cmd.Context(), questions, o.many.parallel, before, after)
	for _, a := range answers {
		c := changed{change(a[0].Decision, a[1].Decision), a[0], a[1]}
		if c.Change == "" {
			continue
		}
		list = append(list, c)
		if a[0].Decision.Outcome != verify.Rejected {
			worst = worse(worst, a[1].Decision.Outcome)
		}
	}
	out := cmd.OutOrStdout()
	if !o.output.text() {
		return exitWith(worst, o.output.print(out, list))
	}
	for _, c := range list {
		mark := outcomeMark(c.New.Decision.Outcome)
		fmt.Fprintf(out, "%s %-15s %s%s\n", paint(out, mark[0], mark[1]), c.Change, printable.Text(c.New.Image), paint(out, faint, shortDigest(c.New.Digest)))
		printWhyNot(out, c.New)
	}
	fmt.Fprintf(out, "\n%s: %d decided otherwise\n", printable.Count(len(answers), "image"), len(list))
	return exitWith(worst, nil)
}

// change names the difference of two decisions, or is empty.
func change(before, after *verify.Decision) string {
	switch {
	case before.Outcome != after.Outcome:
		return "newly " + after.Outcome.String()
	case after.Outcome == verify.Undecided:
		return "still undecided"
	case len(before.Warnings) == 0 && len(after.Warnings) > 0:
		return "newly warned"
	case len(before.Warnings) > 0 && len(after.Warnings) == 0:
		return "no longer warned"
	}
	return ""
}
