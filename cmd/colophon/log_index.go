package main

import (
	"cmp"
	"context"
	"crypto"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// indexOptions choose the index of a log, and who must have cosigned both.
type indexOptions struct {
	url, key  string
	witnesses policy.Witnesses
}

func (o *indexOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.url, "index", "", "the index of somebody who follows the log (colophond follow --search): its `URL`, which ends in the hash of the log's origin; default: the log's own")
	f.StringVar(&o.key, "index-key", "", "the verifier `KEY` of that index, ORIGIN+HEX+BASE64, or a file with it; you get it from the follower")
	f.IntVar(&o.witnesses.AtLeast, "witnesses", 0, "fail unless `N` of the witnesses of --witness-key have cosigned the checkpoints of the log and of its index, and of those of the archive if it is asked")
	f.StringArrayVar(&o.witnesses.Keys, "witness-key", nil, "verifier `KEY` of a witness that you chose, NAME+HEX+BASE64; may be repeated")
	cmd.MarkFlagsRequiredTogether("index", "index-key")
	cmd.MarkFlagsRequiredTogether("witnesses", "witness-key")
}

// check reads the keys.
func (o *indexOptions) check() error {
	if !o.witnesses.None() {
		if err := o.witnesses.Check(); err != nil {
			return usageError("", "%s", strings.TrimPrefix(err.Error(), "policy: log: "))
		}
	}
	if o.key == "" || strings.Contains(o.key, "+") {
		return nil
	}
	text, err := strict.ReadFile(o.key, tlog.MaxCheckpoint)
	if os.IsNotExist(err) {
		return usageError("", "--index-key: expected a key such as ORIGIN+HEX+BASE64, or a file with one, found %q", o.key)
	} else if err != nil {
		return usageError("", "--index-key: %v", err)
	}
	o.key = strings.TrimSpace(string(text))
	return nil
}

// logIndex is the index of a log. It is a tlog.Source of the index log.
type logIndex struct {
	*trustedLog // reads what the index log serves
	key         note.Verifier
	search      string // URL
	followed    bool   // somebody who follows the log has made it, so it may be behind
}

// index returns the index of the log that o names.
func (l *trustedLog) index(o indexOptions) (*logIndex, error) {
	of := *l
	x := &logIndex{trustedLog: &of}
	if o.url == "" {
		of.HTTP.URL, x.search = l.URL+"/index", l.URL
		var err error
		x.key, err = tlog.NewVerifier(search.IndexOrigin(l.Origin), l.Key)
		return x, err
	}
	x.search, x.followed = strings.TrimSuffix(o.url, "/"), true
	of.HTTP.URL = x.search + "/index"
	var err error
	if x.key, err = tlog.ParseLogKey(o.key); err != nil {
		return nil, usageError("", "--index-key: %v", err)
	}
	if want := "/" + search.IndexOrigin(l.Origin); !strings.HasSuffix(x.key.Name(), want) {
		return nil, usageError("", "--index-key: expected the key of an index of %s, whose name ends in %s, found %s", l.URL, want, x.key.Name())
	}
	return x, nil
}

// client returns what reads the index.
func (x *logIndex) client() *http.Client { return cmp.Or(x.HTTP.Client, http.DefaultClient) }

// cosigners are those who signed the checkpoints of a log and of its index besides their keys.
type cosigners struct {
	Witnesses []string `json:"witnesses,omitempty"` // names of the witnesses of --witness-key that cosigned both checkpoints
	Others    []string `json:"otherSigners"`        // names of all that signed both; not verified
}

// cosigned returns who signed both checkpoints, of the log with the key of, or of its archive, and of its
// index. It fails if the witnesses that o demands are too few.
func (l *trustedLog) cosigned(o indexOptions, of, index note.Verifier, checkpoint, indexCheckpoint string) (c cosigners, err error) {
	c.Others = both(otherSigners([]byte(checkpoint), of), otherSigners([]byte(indexCheckpoint), index))
	if o.witnesses.None() {
		return c, nil
	}
	var names [2][]string
	latest := time.Now().Add(bundle.ClockSkew)
	for i, signed := range []string{checkpoint, indexCheckpoint} {
		if names[i], err = o.witnesses.Cosigned([]string{signed}, []crypto.PublicKey{l.Key}, latest); err != nil {
			what := []string{"the log", "its index"}[i]
			return c, &exitError{code: exitRejected, msg: fmt.Sprintf("log %s: the checkpoint of %s: %s", of.Name(), what, strings.Replace(err.Error(), "the policy demands", "expected", 1)),
				hint: "witnesses may be behind or gone: try again, and ask them for their last checkpoint (colophon log gossip)"}
		}
	}
	c.Witnesses = both(names[0], names[1])
	return c, nil
}

// both returns what is in a and in b.
func both(a, b []string) []string {
	names := []string{}
	for _, name := range a {
		if slices.Contains(b, name) {
			names = append(names, name)
		}
	}
	return names
}

// words says who signed.
func (c cosigners) words() string {
	switch {
	case len(c.Witnesses) > 0:
		return "cosigned by " + strings.Join(c.Witnesses, ", ")
	case len(c.Others) > 0:
		return "also signed by " + strings.Join(c.Others, ", ") + ", not verified"
	}
	return ""
}

// newest proves that the log has the entries under both checkpoints, and returns the larger one.
func (l *trustedLog) newest(ctx context.Context, a, b tlog.Checkpoint) (tlog.Checkpoint, error) {
	if a.Size > b.Size {
		a, b = b, a
	}
	return b, tlog.Extends(ctx, l, a, b)
}
