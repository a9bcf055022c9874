package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/verify"
)

// kubeVSAOptions are those of kube vsa.
type kubeVSAOptions struct {
	cluster   kubernetes
	namespace string
	dir       string
	summary   summaryOptions
	output    output
}

func newKubeVSACommand() *cobra.Command {
	var o kubeVSAOptions
	cmd := &cobra.Command{
		Use:   "vsa [KIND/]NAME --to DIR",
		Short: "sign what the cluster's policies decide about a pod's images",
		Long: `Vsa decides about each image of a pod as "colophon kube why" does, and signs each answer as a
SLSA verification summary (VSA), for those who trust the verifier and not the cluster. It
writes a Sigstore bundle for each image into a directory: DIR/HEX.vsa.json, by the digest of
the image, or HEX-2 if the pod has the image from a second repository. The summary names the
policies of the cluster by a digest of them all; docs/kubernetes.md says how to compute it.

The platform that you logged in to logs and timestamps the summaries. An image that is
undecided has none.

Exit codes: 0 all accepted, 3 one rejected, 4 one undecided (and none rejected), 2 usage
error, 1 failure.`,
		Example: `  colophon kube vsa web-7d4b9c -n shop --to summaries --verifier https://example.com/cluster --sign-key vsa.key
  colophon kube vsa deployment/web -n shop --to summaries --verifier https://example.com/cluster --sign-key awskms:///alias/vsa`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runKubeVSA(cmd, args[0], o, time.Now()) },
	}
	o.cluster.flags(cmd)
	o.output.flags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "`NAMESPACE` of the pod; without it, that of the kubeconfig")
	f.StringVar(&o.dir, "to", "", "`DIR` to write the summaries to; required")
	f.StringVar(&o.summary.verifier, "verifier", "", "`URI` that identifies the verifier and belongs to the signer; required")
	f.StringVar(&o.summary.key, "sign-key", "", "private key that signs, `FILE` or URI as for sign --key")
	f.StringVar(&o.summary.token, "identity-token-file", "", "`FILE` with an OIDC token that the platform's certificate authority accepts, in place of a key")
	cmd.MarkFlagsMutuallyExclusive("sign-key", "identity-token-file")
	return cmd
}

// signedDecision is the answer of kube vsa about one image, for programs.
type signedDecision struct {
	Image   string         `json:"image"`
	Digest  string         `json:"digest,omitempty"`
	Outcome verify.Outcome `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
	File    string         `json:"file,omitempty"` // with the summary; none if the image is undecided
}

func runKubeVSA(cmd *cobra.Command, name string, o kubeVSAOptions, now time.Time) error {
	switch {
	case o.dir == "":
		return usageError("", "--to is required: where do the summaries go?")
	case o.summary.key == "" && o.summary.token == "":
		return usageError("", "who signs? Name --sign-key or --identity-token-file")
	}
	decided, err := o.cluster.decide(cmd, o.namespace, name, now)
	if err != nil {
		return err
	}
	switch {
	case decided.config.namespace == "":
		return &exitError{code: exitFailure, msg: "the configuration of admission cannot be read: a summary could say less than the cluster demands", hint: "ask with rights to read the ConfigMap colophon-admission"}
	case decided.config.ClusterImagePolicies != nil:
		return &exitError{code: exitFailure, msg: "ClusterImagePolicies count in this cluster, and a summary cannot name them yet", hint: "colophon verify --policy FILE --vsa signs by one policy"}
	}
	if lists := decided.config.lists; len(lists) > 0 {
		if err := lists.Fresh(distrust.MaxLife, now); err != nil {
			return &exitError{code: exitUndecided, msg: "lists of what is no longer trusted count in this cluster: " + err.Error(), hint: "without them, a summary could say less than the cluster demands"}
		}
	}
	demand, err := canonicalPolicies(decided.policies)
	if err != nil {
		return err
	}
	var machine verify.Options
	if _, err := loadTrust(&machine); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	all := []signedDecision{}
	for _, a := range decided.images {
		d := signedDecision{Image: a.Image, Digest: a.Digest, Outcome: a.Decision.Outcome, Reason: a.Decision.Reason}
		if d.Outcome != verify.Undecided {
			ref, err := oci.ParseReference(a.Image)
			if err != nil {
				return err
			}
			d.File = filepath.Join(o.dir, summaryName(d.Digest, all))
			o.summary.to = d.File
			s, err := o.summary.prepare(cmd, ref, false, demand, machine.Trust)
			if err != nil {
				return err
			}
			if err := s.issue(cmd.Context(), a.Decision.Verdict()); err != nil {
				return fmt.Errorf("%s: %w", printable.Text(a.Image), err)
			}
		}
		all = append(all, d)
	}
	out := cmd.OutOrStdout()
	if !o.output.text() {
		return exitWith(decided.worst(), o.output.print(out, all))
	}
	for _, d := range all {
		what := d.File
		if what == "" {
			what = "no summary: " + d.Reason
		}
		fmt.Fprintf(out, "%s: %s: %s\n", printable.Text(d.Image), d.Outcome, printable.Line(what))
	}
	return exitWith(decided.worst(), nil)
}

// summaryName returns the name of the file with the summary about a digest. Two images of a pod may have
// one digest, in two repositories about which the policies say different things: the second one has
// another file, HEX-2.vsa.json.
func summaryName(digest string, before []signedDecision) string {
	n, name := 1, strings.TrimPrefix(digest, "sha256:")
	for _, d := range before {
		if d.Digest == digest && d.File != "" {
			n++
		}
	}
	if n > 1 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return name + ".vsa.json"
}

// canonicalPolicies returns the bytes whose digest names the policies of a cluster in a summary: a
// line of JSON for each, with apiVersion, kind, metadata.name, metadata.namespace and spec, members
// in the order of their names, and the lines ordered.
func canonicalPolicies(all []json.RawMessage) ([]byte, error) {
	var lines [][]byte
	for _, raw := range all {
		var p struct {
			APIVersion string   `json:"apiVersion"`
			Kind       string   `json:"kind"`
			Metadata   metadata `json:"metadata"`
			Spec       any      `json:"spec"`
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&p); err != nil {
			return nil, err
		}
		names := map[string]string{"name": p.Metadata.Name}
		if p.Metadata.Namespace != "" {
			names["namespace"] = p.Metadata.Namespace
		}
		var line bytes.Buffer
		enc := json.NewEncoder(&line) // ends with a line feed
		enc.SetEscapeHTML(false)
		if err := enc.Encode(map[string]any{"apiVersion": p.APIVersion, "kind": p.Kind, "metadata": names, "spec": p.Spec}); err != nil {
			return nil, err
		}
		lines = append(lines, line.Bytes())
	}
	slices.SortFunc(lines, bytes.Compare)
	return bytes.Join(lines, nil), nil
}
