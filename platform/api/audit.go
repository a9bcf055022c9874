package api

import "github.com/colophon-build/colophon/audit"

// Paths of the audit ledger of a platform (spec/audit/v1).
const (
	PathAudit        = "/audit/v1"            // below it the ledger's files: checkpoint, tile/…, openings/…, segments/…
	PathAuditRecords = PathAudit + "/records" // POST takes an audit.Entry; GET answers with an audit.Answer
)

// AuditErasure asks for the erasure of openings.
type AuditErasure struct {
	Entries []audit.Range `json:"entries"`
	Reason  string        `json:"reason"` // is recorded
}
