package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func newKubeWhyCommand() *cobra.Command {
	var c kubernetes
	var o output
	var namespace string
	cmd := &cobra.Command{
		Use:   "why [KIND/]NAME",
		Short: "say what the cluster's policies decide about a pod, and why",
		Long: `Why says of each image of a pod what the policies of the cluster decide about it now,
with its trust roots: which rule, and which fact. It reads the images in their
registries with the credentials of this machine, by the same code as admission. It then
shows what admission decided when the pod was created, from the logs of its replicas, and
what was recorded about the pod as events.

A pod that was refused does not exist: ask about what should have made it, as
deployment/web. If the cluster has no trust root, those of this machine count. Lists of what is
no longer trusted are those that admission's configuration names.

Exit codes: 0 all accepted, 3 one rejected, 4 one undecided (and none rejected), 2 usage
error, 1 failure.`,
		Example: `  colophon kube why web-7d4b9c -n shop
  colophon kube why deployment/web -n shop`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runKubeWhy(cmd, &c, namespace, args[0], o, time.Now())
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`NAMESPACE` of the pod; without it, that of the kubeconfig")
	o.flags(cmd)
	return cmd
}

// whyPod is the answer of kube why for programs.
type whyPod struct {
	Object   string           `json:"object"` // Pod shop/web-7d4b9c
	Images   []*answered      `json:"images"`
	Decided  []decisionRecord `json:"decided,omitempty"`        // when it was created
	Problem  string           `json:"decidedProblem,omitempty"` // why that cannot be read
	Recorded []recordedEvents `json:"recorded,omitempty"`
}

func runKubeWhy(cmd *cobra.Command, c *kubernetes, namespace, name string, o output, now time.Time) error {
	decided, err := c.decide(cmd, namespace, name, now)
	if err != nil {
		return err
	}
	asked := decided.object
	answer := whyPod{Object: asked.title(), Images: decided.images}
	worst := decided.worst()
	answer.Recorded, err = c.decisions(cmd.Context(), "-n", asked.Metadata.Namespace, "--field-selector=involvedObject.name="+asked.Metadata.Name)
	if err != nil {
		return err
	}
	if answer.Decided, err = c.records(cmd.Context(), asked.Metadata); err != nil {
		answer.Problem = err.Error()
	}
	out := cmd.OutOrStdout()
	if !o.text() {
		return exitWith(worst, o.print(out, answer))
	}
	for _, a := range answer.Images {
		printDecision(out, a)
		for _, r := range a.Decision.Rules {
			explainRule(out, r)
		}
	}
	printRecords(out, answer.Decided, answer.Problem)
	printEvents(out, answer.Recorded)
	return exitWith(worst, nil)
}

// clusterDecision is what the policies of a cluster decide about an object of it.
type clusterDecision struct {
	object   object
	images   []*answered
	policies []json.RawMessage // the objects that have them
	config   *admissionConfig
}

func (o object) title() string {
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
}

func (d *clusterDecision) worst() verify.Outcome {
	worst := verify.Accepted
	for _, a := range d.images {
		worst = worse(worst, a.Decision.Outcome)
	}
	return worst
}

// decide asks the policies of the cluster about the images of an object, [KIND/]NAME.
func (c *kubernetes) decide(cmd *cobra.Command, namespace, name string, now time.Time) (*clusterDecision, error) {
	if strings.HasPrefix(name, "-") || strings.Count(name, "/") > 1 {
		return nil, usageError("for example deployment/web", "expected [KIND/]NAME, found %q", name)
	}
	if !strings.Contains(name, "/") {
		name = "pod/" + name
	}
	args := []string{"get", "-o", "json", name}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	raw, err := c.run(cmd.Context(), args...)
	if err != nil {
		return nil, err
	}
	out := &clusterDecision{images: []*answered{}}
	if err := json.Unmarshal(raw, &out.object); err != nil {
		return nil, fmt.Errorf("kubectl get %s: %w", name, err)
	}
	if out.config, err = c.admissionConfig(cmd.Context(), cmd.ErrOrStderr()); err != nil {
		return nil, err
	}
	images := imagelist.List{Fields: out.config.fields}
	if err := images.Document(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out.policies, err = list[json.RawMessage](cmd.Context(), c, "imagepolicies.colophon.build,namespacedimagepolicies.colophon.build", "-A")
	if err != nil {
		return nil, err
	}
	sets, err := parsePolicies(out.policies)
	if err != nil {
		return nil, err
	}
	file := &policyFile{sets: sets, objects: &clusterimagepolicy.Objects{}}
	if err := c.clusterImagePolicies(cmd.Context(), out.config, file); err != nil {
		return nil, err
	}
	d, err := c.decider(cmd, file, out.config, now)
	if err != nil {
		return nil, err
	}
	var questions []question
	for _, i := range images.Images {
		questions = append(questions, question{i, out.object.Metadata.Namespace})
	}
	for _, a := range d.decideAll(cmd.Context(), questions, maxParallel, file) {
		out.images = append(out.images, a[0])
	}
	return out, nil
}

// parsePolicies parses the policies of a cluster. It fails if one cannot be parsed: admission then
// decides by the last good version, which the cluster no longer has.
func parsePolicies(all []json.RawMessage) (sets []*policy.Set, err error) {
	for _, raw := range all {
		parsed, err := policy.ParseSets(raw)
		if err != nil {
			var o object
			_ = json.Unmarshal(raw, &o) // only for its name
			return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%s %s: %v", o.Kind, strings.TrimPrefix(o.Metadata.Namespace+"/"+o.Metadata.Name, "/"), err),
				hint: "admission decides by the last good version, which the cluster no longer has: mend the policy"}
		}
		sets = append(sets, parsed...)
	}
	return sets, nil
}

// decider returns what decides with the trust roots of the cluster, or without one there, of this
// machine; and with the lists of what is no longer trusted that count in the cluster.
func (c *kubernetes) decider(cmd *cobra.Command, file *policyFile, config *admissionConfig, now time.Time) (*decider, error) {
	all, err := list[object](cmd.Context(), c, "trustroots.colophon.build")
	if err != nil {
		return nil, err
	}
	var roots []*trust.Root
	for _, r := range all {
		root, err := trust.Parse([]byte(r.Spec.Document))
		if err != nil {
			return nil, fmt.Errorf("TrustRoot %s: %w", r.Metadata.Name, err)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		var machine verify.Options
		if _, err := loadTrust(&machine); err != nil {
			return nil, err
		}
		roots = machine.Trust
	}
	config.readLists(cmd.Context(), now, roots)
	o := decideOptions{now: now, timeout: c.timeout, many: manyOptions{mirrors: config.Names}, cluster: &clusterTrust{roots, config.lists}}
	d, err := o.decider(cmd, file)
	if err == nil {
		d.opts.Pinned = true // as admission reads images
	}
	return d, err
}
