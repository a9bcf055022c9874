package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
)

// decisionRecord is a line of admission's log: what it decided about an image of an object when the
// API server asked.
type decisionRecord struct {
	Time      time.Time `json:"time"`
	UID       string    `json:"uid"` // of the request
	User      string    `json:"user"`
	Operation string    `json:"operation"`
	Object    string    `json:"object"`
	ObjectUID string    `json:"objectUID"`
	Admitted  bool      `json:"admitted"` // the whole object
	Image     string    `json:"image"`
	Place     string    `json:"place"`
	Outcome   string    `json:"outcome,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Policies  string    `json:"policies,omitempty"` // id of the policies and trust roots that counted
	Rules     string    `json:"rules,omitempty"`
	Digest    string    `json:"digest,omitempty"`
	Source    string    `json:"source,omitempty"`
	Commit    string    `json:"commit,omitempty"`
	Builder   string    `json:"builder,omitempty"`
	DryRun    bool      `json:"dryRun,omitempty"`
}

const (
	maxRecords = 8 << 20          // bytes of the log of one replica
	recordSkew = 10 * time.Second // between the clocks of the API server and of nodes
)

// records returns the decisions about an object that admission recorded when it was created. They
// are in the logs of the replicas that decided, as long as those exist.
func (c *kubernetes) records(ctx context.Context, m metadata) ([]decisionRecord, error) {
	out := []decisionRecord{}
	namespace, err := c.installedIn(ctx)
	if err != nil || namespace == "" {
		return out, err
	}
	raw, err := c.run(ctx, "logs", "-n", namespace, "-l", admissionLabels, "--tail=-1", "--max-log-requests=50",
		fmt.Sprintf("--limit-bytes=%d", maxRecords), "--since-time="+m.CreationTimestamp.Add(-recordSkew).UTC().Format(time.RFC3339))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(raw) {
		var r struct {
			Message string `json:"msg"`
			decisionRecord
		}
		if json.Unmarshal(line, &r) == nil && r.Message == "decision" && m.UID != "" && r.ObjectUID == m.UID {
			out = append(out, r.decisionRecord)
		}
	}
	slices.SortStableFunc(out, func(a, b decisionRecord) int { return a.Time.Compare(b.Time) })
	return out, nil
}

func printRecords(w io.Writer, all []decisionRecord, problem string) {
	switch {
	case problem != "":
		fmt.Fprintf(w, "\nnot known: what admission decided when it was created: %s\n", printable.Line(problem))
	case len(all) == 0:
		fmt.Fprintln(w, "\nno record of what admission decided: it was not asked, or the replica that decided is gone")
	default:
		fmt.Fprintln(w, "\ndecided:")
	}
	for _, r := range all {
		word := "refused"
		if r.Admitted {
			word = "admitted"
		}
		fmt.Fprintf(w, "  %s  %s by %s: %s: %s", r.Time.UTC().Format(time.RFC3339), printable.Text(r.Operation), printable.Text(r.User), word, printable.Text(r.Image))
		for _, more := range []struct{ name, value string }{{"", r.Outcome}, {"commit", r.Commit}, {"policies", r.Policies}, {"request", r.UID}, {"", r.Reason}} {
			if more.value == "" {
				continue
			}
			if more.name != "" {
				more.name += " "
			}
			fmt.Fprintf(w, ", %s%s", more.name, printable.Line(more.value))
		}
		fmt.Fprintln(w)
	}
}
