package search

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// recordHead is the first line of an entry of an archive's log, with its version.
const recordHead = "colophon archive v1"

// Record is an entry of the log of an archive (spec/archive/v1): one piece of content that the
// archive keeps, or another artifact to which earlier content was attached. The entry at index i has
// the number i+1.
type Record struct {
	Number      int64     // in the order of arrival, from 1
	Since       time.Time // when it arrived; whole seconds, UTC
	Form        string    // of the content, such as bundle; see ArchiveKeys
	Digest      string    // of the content: sha256:HEX
	Size        int64     // of the content, bytes
	Entry       string    // leaf hash that the log entry of the signature has, HEX; empty: it cannot be computed
	Of          int64     // number of the earlier record that has this content; 0: this one is the first
	Attached    string    // digest of the artifact to which the content was attached in a registry; may be empty
	Annotations string    // SHA-256 of the annotations without which the content is not complete, HEX; empty: it has none
}

// A record. Each line ends with a newline. "-" means empty:
//
//	colophon archive v1
//	number              decimal, no leading zero
//	since               RFC 3339, UTC, seconds
//	form                lower-case letters, digits and hyphens
//	digest              sha256:HEX
//	size                decimal
//	entry               HEX of 32 bytes
//	of                  decimal
//	attached            ALGORITHM:HEX
//	annotations         HEX of 32 bytes

// Bytes returns the entry of the archive's log.
func (r Record) Bytes() []byte {
	field := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return fmt.Appendf(nil, "%s\n%d\n%s\n%s\n%s\n%d\n%s\n%d\n%s\n%s\n", recordHead, r.Number, r.Since.UTC().Format(time.RFC3339), r.Form, r.Digest, r.Size,
		field(r.Entry), r.Of, field(r.Attached), field(r.Annotations))
}

var (
	formForm     = lazyregexp.New(`^[a-z0-9-]{1,64}$`)
	attachedForm = lazyregexp.New(`^[A-Za-z0-9]{1,64}:[0-9a-f]{2,191}$`)
)

// ParseRecord reads an entry of an archive's log. It accepts exactly what Bytes writes.
func ParseRecord(entry []byte) (Record, error) {
	bad := func(format string, args ...any) (Record, error) {
		return Record{}, fmt.Errorf("entry of the archive's log: "+format, args...)
	}
	lines := strings.Split(string(entry), "\n")
	if len(lines) != 11 || lines[0] != recordHead || lines[10] != "" {
		return bad("got %q, want version 1, which starts with %q", lines[0], recordHead)
	}
	optional := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	r := Record{Form: lines[3], Digest: lines[4], Entry: optional(lines[6]), Attached: optional(lines[8]), Annotations: optional(lines[9])}
	var err error
	for _, n := range []struct {
		name, text string
		least      int64
		to         *int64
	}{{"number", lines[1], 1, &r.Number}, {"size", lines[5], 0, &r.Size}, {"of", lines[7], 0, &r.Of}} {
		if *n.to, err = strconv.ParseInt(n.text, 10, 64); err != nil || *n.to < n.least {
			return bad("%s: got %q, want a number from %d on", n.name, n.text, n.least)
		}
	}
	if r.Since, err = time.Parse(time.RFC3339, lines[2]); err != nil {
		return bad("since: got %q, want a time (RFC 3339)", lines[2])
	}
	switch algorithm, sum, _ := strings.Cut(r.Digest, ":"); {
	case !formForm.MatchString(r.Form):
		return bad("form: got %q, want lower-case letters, digits and hyphens", r.Form)
	case algorithm != "sha256" || !isSum(sum):
		return bad("digest: got %q, want sha256:HEX", r.Digest)
	case r.Entry != "" && !isSum(r.Entry):
		return bad("log entry: got %q, want 64 hex digits", r.Entry)
	case r.Annotations != "" && !isSum(r.Annotations):
		return bad("annotations: got %q, want 64 hex digits", r.Annotations)
	case r.Attached != "" && !attachedForm.MatchString(r.Attached):
		return bad("attached: got %q, want ALGORITHM:HEX", r.Attached)
	case r.Of >= r.Number:
		return bad("record %d adds to record %d, which comes later", r.Number, r.Of)
	case string(r.Bytes()) != string(entry):
		return bad("it is not in the form that version 1 has")
	}
	return r, nil
}

// isSum reports whether s is a SHA-256 in lower-case hex.
func isSum(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == 32 && hex.EncodeToString(sum) == s
}

// ArchiveOrigin returns the origin of the log of the archive that belongs to the log with this
// origin. The log's key signs its checkpoints, under this name. It has an index log as every
// log: see IndexOrigin.
func ArchiveOrigin(log string) string { return log + "/archive" }
