package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Paths of the audit ledger of a platform (spec/audit/v1).
const (
	PathAudit         = "/audit/v1"             // below it the ledger's files: checkpoint, tile/…, openings/…, segments/…
	PathAuditVerdicts = PathAudit + "/verdicts" // POST takes an audit.Record of the kind verify or case, without by and time, from somebody with a token
	PathAuditRecords  = PathAudit + "/records"  // POST takes an audit.Entry, and answers with an audit.Added; GET answers with an audit.Answer
	PathAuditBatches  = PathAudit + "/batches"  // POST takes an audit.Batch, and answers with an audit.Taken for each of its entries
)

// AuditErasure asks for the erasure of openings.
type AuditErasure struct {
	Entries []audit.Range `json:"entries"`
	Reason  string        `json:"reason"` // is recorded
}

// Report records in the platform's audit ledger, on whose disk it then is, what the account of the token says: a
// verdict, or that a case file was signed. A platform with too much to do is asked again, until ctx ends.
func (c *ClientConfig) Report(ctx context.Context, r audit.Record) (added audit.Added, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return added, err
	}
	for {
		req, err := c.request(ctx, http.MethodPost, PathAuditVerdicts, body)
		if err != nil {
			return added, err
		}
		req.Header.Set("Authorization", "Bearer "+c.Token)
		resp, err := do(req)
		if err != nil {
			return added, err
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			resp.Body.Close()
			select {
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return added, &Error{Message: fmt.Sprintf("platform %s: the audit ledger is busy", c.URL), Hint: "run the command again later"}
			}
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return added, refusal(c.URL, resp)
		}
		raw, err := strict.Read(resp.Body, limits.Request)
		if err == nil {
			err = strict.Unmarshal(raw, limits.Request, &added)
		}
		if err == nil && !sha256Digest.MatchString(added.ID) {
			err = fmt.Errorf("expected the ID of a record, found %q", added.ID)
		}
		if err != nil {
			err = fmt.Errorf("platform %s: the answer does not say that the audit ledger has the record: %w", c.URL, err)
		}
		return added, err
	}
}
