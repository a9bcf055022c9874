package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

func newKubeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kube",
		Short: "ask a Kubernetes cluster what admission does there, and why",
		Long: `Kube asks a cluster in which admission is installed. It runs kubectl, which must be in
PATH, with your kubeconfig: it sees what you may see.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKubeStatusCommand(), newKubeWhyCommand(), newKubeVSACommand())
	return cmd
}

// kubernetes is a cluster as kubectl reaches it.
type kubernetes struct {
	kubeconfig, context string
	timeout             time.Duration
}

func (c *kubernetes) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `FILE`; without it, that of kubectl")
	f.StringVar(&c.context, "context", "", "`CONTEXT` of the kubeconfig; without it, the current one")
	f.DurationVar(&c.timeout, "timeout", time.Minute, "after this long, stop waiting for the cluster")
}

// run runs kubectl and returns its standard output, at most limits.ImageList bytes.
func (c *kubernetes) run(ctx context.Context, args ...string) ([]byte, error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return nil, &exitError{code: exitFailure, msg: "kubectl is not in PATH", hint: "install kubectl: colophon asks the cluster with it"}
	}
	ctx, cancel := withTimeout(ctx, c.timeout)
	defer cancel()
	if c.kubeconfig != "" {
		args = append(args, "--kubeconfig="+c.kubeconfig)
	}
	if c.context != "" {
		args = append(args, "--context="+c.context)
	}
	cmd := exec.CommandContext(ctx, kubectl, args...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	raw, readErr := strict.Read(stdout, limits.ImageList)
	if readErr != nil {
		cancel() // it must not wait for us to read more
	}
	switch err := cmd.Wait(); {
	case readErr != nil:
		return nil, fmt.Errorf("kubectl %s: %w", args[0], readErr)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("kubectl %s: %s", args[0], strings.TrimSpace(stderr.String())), hint: c.hint(stderr.String())}
	}
	return raw, nil
}

// hint says what to do about what kubectl printed.
func (c *kubernetes) hint(said string) string {
	switch {
	case strings.Contains(said, "doesn't have a resource type"):
		return "admission is not installed in this cluster: see docs/kubernetes.md"
	case strings.Contains(said, "Forbidden"):
		return "you may not read this in the cluster"
	}
	return ""
}

// metadata is what is read of the metadata of an object.
type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`

	UID               string    `json:"uid"`
	CreationTimestamp time.Time `json:"creationTimestamp"`
}

// list decodes the items of a list of objects, as kubectl get -o json prints it.
func list[T any](ctx context.Context, c *kubernetes, args ...string) ([]T, error) {
	raw, err := c.run(ctx, append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var all struct {
		Items []T `json:"items"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("kubectl get %s: %w", args[0], err)
	}
	return all.Items, nil
}

// isAbsent reports whether kubectl failed because there is no such object or kind.
func isAbsent(err error) bool {
	exit, ok := errors.AsType[*exitError](err)
	return ok && (strings.Contains(exit.msg, "(NotFound)") || strings.Contains(exit.msg, "doesn't have a resource type"))
}
