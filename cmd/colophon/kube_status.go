package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
)

// admission is the name that the chart gives to all that it installs.
const admission = "colophon-admission"

// admissionLabels select admission's own objects in its namespace.
const admissionLabels = "app.kubernetes.io/name=colophon,app.kubernetes.io/component=admission"

func newKubeStatusCommand() *cobra.Command {
	var o output
	var c kubernetes
	cmd := &cobra.Command{
		Use:   "status",
		Short: "say whether a cluster admits only what its policies accept",
		Long: `Status says whether the API server asks admission about every pod, and refuses pods if
admission does not answer; how many replicas are ready; which namespaces are exempt; and
which policies and trust roots are in force. It shows the latest decisions that were
recorded as events.

Status exits with 1 if something is missing that lets images pass unasked, or if
admission cannot answer.`,
		Example: `  colophon kube status
  colophon kube status --context production --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runKubeStatus(cmd, &c, o) },
	}
	c.flags(cmd)
	o.flags(cmd)
	return cmd
}

// clusterStatus is what kube status prints.
type clusterStatus struct {
	Protected bool             `json:"protected"`          // no problem
	Problems  []string         `json:"problems,omitempty"` // what lets images pass, or refuses all of them
	Replicas  replicas         `json:"replicas"`
	Exempt    []string         `json:"exempt,omitempty"` // namespaces about whose pods admission is not asked
	Policies  []clusterObject  `json:"policies"`
	Trust     []clusterObject  `json:"trustRoots"`
	Decisions []recordedEvents `json:"decisions,omitempty"` // the newest last
}

type replicas struct {
	Ready  int `json:"ready"`
	Wanted int `json:"wanted"`
}

// clusterObject is a policy or trust root, and what admission says about it.
type clusterObject struct {
	Kind        string `json:"kind"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name"`
	Ready       string `json:"ready"`            // True, False, or Unknown if admission has not said it
	Reason      string `json:"reason,omitempty"` // what is wrong with it
	Fingerprint string `json:"fingerprint,omitempty"`
}

func runKubeStatus(cmd *cobra.Command, c *kubernetes, o output) error {
	s, err := c.status(cmd.Context())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if !o.text() {
		err = o.print(out, s)
	} else {
		err = s.print(out)
	}
	if err == nil && !s.Protected {
		return &exitError{code: exitFailure}
	}
	return err
}

func (c *kubernetes) status(ctx context.Context) (*clusterStatus, error) {
	s := &clusterStatus{Policies: []clusterObject{}, Trust: []clusterObject{}}
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		if err := c.webhooks(ctx, kind, s); err != nil {
			return nil, err
		}
	}
	if err := c.replicas(ctx, s); err != nil {
		return nil, err
	}
	for kinds, into := range map[string]*[]clusterObject{"imagepolicies.colophon.build,namespacedimagepolicies.colophon.build": &s.Policies, "trustroots.colophon.build": &s.Trust} {
		all, err := list[object](ctx, c, kinds, "-A")
		if err != nil && !isAbsent(err) {
			return nil, err
		}
		for _, o := range all {
			*into = append(*into, o.summary())
		}
	}
	for _, o := range slices.Concat(s.Policies, s.Trust) {
		if o.Ready == "False" {
			s.problem("%s %s is not in force: %s", o.Kind, strings.TrimPrefix(o.Namespace+"/"+o.Name, "/"), o.Reason)
		}
	}
	if err := c.others(ctx, s); err != nil {
		return nil, err
	}
	if len(s.Policies) == 0 {
		s.problem("there is no policy")
	}
	decisions, err := c.decisions(ctx, "-A")
	if err != nil {
		return nil, err
	}
	s.Decisions = decisions[max(0, len(decisions)-10):]
	s.Protected = len(s.Problems) == 0
	return s, nil
}

// others adds the ClusterImagePolicies, if admission decides by them.
func (c *kubernetes) others(ctx context.Context, s *clusterStatus) error {
	config, err := c.admissionConfig(ctx, io.Discard)
	if err != nil || config.ClusterImagePolicies == nil {
		return err
	}
	all, err := list[object](ctx, c, "clusterimagepolicies."+clusterimagepolicy.Group)
	if isAbsent(err) {
		s.problem("ClusterImagePolicies should count, and their definition does not exist: all pods are refused")
		return nil
	}
	for _, o := range all {
		o.Status.Conditions = nil // of policy-controller
		one := o.summary()
		one.Reason = "admission's /readyz and its log say whether it is in force"
		s.Policies = append(s.Policies, one)
	}
	return err
}

func (s *clusterStatus) problem(format string, args ...any) {
	s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
}

// object is what is read of a policy or trust root.
type object struct {
	Kind     string   `json:"kind"`
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Document string `json:"document"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type, Status, Message string
		} `json:"conditions"`
	} `json:"status"`
}

func (o object) summary() clusterObject {
	out := clusterObject{Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Ready: "Unknown"}
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			out.Ready, out.Reason = c.Status, c.Message
		}
	}
	if o.Spec.Document != "" {
		if root, err := trust.Parse([]byte(o.Spec.Document)); err == nil {
			out.Fingerprint = root.Pin()
		}
	}
	return out
}

// webhook is what is read of a webhook in a configuration of the API server.
type webhook struct {
	Name          string `json:"name"`
	FailurePolicy string `json:"failurePolicy"`
	ClientConfig  struct {
		CABundle string `json:"caBundle"`
		Service  struct {
			Namespace string `json:"namespace"`
		} `json:"service"`
	} `json:"clientConfig"`
	Rules []struct {
		Operations, Resources, APIGroups []string
	} `json:"rules"`
	NamespaceSelector selector `json:"namespaceSelector"`
	ObjectSelector    selector `json:"objectSelector"`
	MatchConditions   []struct {
		Name string `json:"name"`
	} `json:"matchConditions"`
}

type selector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key, Operator string
		Values        []string
	} `json:"matchExpressions"`
}

// nameLabel is the label that holds a namespace's name. Nobody can change it.
const nameLabel = "kubernetes.io/metadata.name"

// webhookConfiguration returns the webhooks of a configuration of the API server.
func (c *kubernetes) webhookConfiguration(ctx context.Context, kind string) ([]webhook, error) {
	raw, err := c.run(ctx, "get", "-o", "json", kind, admission)
	if err != nil {
		return nil, err
	}
	var config struct {
		Webhooks []webhook `json:"webhooks"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, admission, err)
	}
	return config.Webhooks, nil
}

// webhooks finds what a configuration of the API server does not ask about.
func (c *kubernetes) webhooks(ctx context.Context, kind string, s *clusterStatus) error {
	config, err := c.webhookConfiguration(ctx, kind)
	if isAbsent(err) {
		s.problem("the %s %s does not exist: pods are not checked", kind, admission)
		return nil
	}
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, w := range config {
		at := kind + " " + w.Name
		if w.FailurePolicy != "Fail" {
			s.problem("%s: failurePolicy: expected Fail, found %s: pods pass if admission does not answer", at, w.FailurePolicy)
		}
		if w.ClientConfig.CABundle == "" {
			s.problem("%s: it has no caBundle yet: all pods are refused", at)
		}
		s.exemptions(at, w)
		for _, r := range w.Rules {
			for _, resource := range r.Resources {
				for _, operation := range r.Operations {
					asked[operation+" "+resource] = true
				}
			}
		}
	}
	for _, resource := range []string{"pods", "pods/ephemeralcontainers"} {
		for _, operation := range []string{"CREATE", "UPDATE"} {
			if resource == "pods/ephemeralcontainers" && operation == "CREATE" {
				continue // they are only ever updates of a pod
			}
			if !asked[operation+" "+resource] && !asked["* "+resource] {
				s.problem("%s %s: no rule for %s of %s", kind, admission, operation, resource)
			}
		}
	}
	return nil
}

// exemptions notes which pods a webhook is not asked about.
func (s *clusterStatus) exemptions(at string, w webhook) {
	for _, e := range w.NamespaceSelector.MatchExpressions {
		if e.Key == nameLabel && e.Operator == "NotIn" {
			for _, name := range e.Values {
				if !slices.Contains(s.Exempt, name) {
					s.Exempt = append(s.Exempt, name)
				}
			}
			continue
		}
		s.problem("%s: only namespaces whose label %s is %s %s are checked", at, e.Key, e.Operator, strings.Join(e.Values, ", "))
	}
	for label := range w.NamespaceSelector.MatchLabels {
		s.problem("%s: only namespaces with a certain label %s are checked", at, label)
	}
	if len(w.ObjectSelector.MatchLabels)+len(w.ObjectSelector.MatchExpressions) > 0 {
		s.problem("%s: it has an objectSelector: only pods with certain labels are checked", at)
	}
	for _, m := range w.MatchConditions {
		if m.Name != "spec-changes" && m.Name != "tags" { // the latter is of the mutating one, which admits nothing
			s.problem("%s: its matchCondition %s is not one of the chart's", at, m.Name)
		}
	}
}

// replicas counts the replicas of the webhook that are ready.
func (c *kubernetes) replicas(ctx context.Context, s *clusterStatus) error {
	type deployment struct {
		Spec   struct{ Replicas int }
		Status struct{ ReadyReplicas int }
	}
	var all []deployment
	namespace, err := c.installedIn(ctx)
	if err == nil && namespace != "" {
		all, err = list[deployment](ctx, c, "deployments", "-n", namespace, "-l", admissionLabels)
	}
	if err != nil {
		return err
	}
	for _, d := range all {
		s.Replicas.Wanted += d.Spec.Replicas
		s.Replicas.Ready += d.Status.ReadyReplicas
	}
	if s.Replicas.Ready == 0 {
		s.problem("no replica of admission is ready: all pods are refused")
	}
	return nil
}

// recordedEvents is a decision that was recorded, as often as it was.
type recordedEvents struct {
	Time    time.Time `json:"time"` // of the latest
	Object  string    `json:"object"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
}

// decisions returns the events that tell of decisions, the newest last: those of admission itself, and
// those of controllers whose pods admission refused.
func (c *kubernetes) decisions(ctx context.Context, args ...string) ([]recordedEvents, error) {
	all, err := list[struct {
		Reason, Message, Type, ReportingComponent string
		Count                                     int
		EventTime, LastTimestamp                  *time.Time
		Source                                    struct{ Component string }
		InvolvedObject                            struct{ Kind, Namespace, Name string }
	}](ctx, c, append([]string{"events"}, args...)...)
	if err != nil {
		return nil, err
	}
	var out []recordedEvents
	for _, e := range all {
		ours := cmp.Or(e.ReportingComponent, e.Source.Component) == admission
		if !ours && !strings.Contains(e.Message, ".colophon.build") {
			continue
		}
		r := recordedEvents{Object: fmt.Sprintf("%s %s/%s", e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name), Reason: e.Reason, Message: e.Message, Count: max(1, e.Count)}
		if at := cmp.Or(e.LastTimestamp, e.EventTime); at != nil {
			r.Time = at.UTC()
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b recordedEvents) int { return a.Time.Compare(b.Time) })
	return out, nil
}

func (s *clusterStatus) print(w io.Writer) error {
	if s.Protected {
		fmt.Fprintf(w, "%s every pod must satisfy the policies\n", paint(w, green, "✓"))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "%s %s\n", paint(w, red, "✗"), printable.Text(p))
	}
	fmt.Fprintf(w, "  replicas ready: %d of %d\n", s.Replicas.Ready, s.Replicas.Wanted)
	if len(s.Exempt) > 0 {
		fmt.Fprintf(w, "  not checked: pods in the namespaces %s\n", printable.Text(strings.Join(s.Exempt, ", ")))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nKIND\tNAMESPACE\tNAME\tREADY\tREASON")
	for _, o := range slices.Concat(s.Policies, s.Trust) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", cell(o.Kind), cell(o.Namespace), cell(o.Name), cell(o.Ready), cell(o.Reason))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printEvents(w, s.Decisions)
	return nil
}

func printEvents(w io.Writer, all []recordedEvents) {
	if len(all) > 0 {
		fmt.Fprintln(w, "\nrecorded:")
	}
	for _, e := range all {
		times := ""
		if e.Count > 1 {
			times = fmt.Sprintf(" (%d times)", e.Count)
		}
		fmt.Fprintf(w, "  %s  %s  %s: %s%s\n", e.Time.Format(time.RFC3339), printable.Text(e.Object), printable.Text(e.Reason), printable.Text(e.Message), times)
	}
}
