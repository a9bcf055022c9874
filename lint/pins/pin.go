package pins

import (
	"context"
	"errors"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

var digest = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

func isDigest(s string) bool { return digest.MatchString(s) }

// Pin returns the edits that replace the bytes from start to end of a text by a commit or digest,
// and write label as a comment behind it. It returns none where no comment can stand.
func Pin(t yamlfile.Text, start, end int, pin, label string) []finding.Edit {
	at, ok := tail(t)
	if !ok || strings.ContainsAny(label, "\r\n") {
		return nil
	}
	edits := t.Replace(start, end, pin)
	if edits == nil || label == "" {
		return edits
	}
	if at == edits[0].End {
		edits[0].New += " # " + label // one edit: two at the same place have no order
		return edits
	}
	return append(edits, t.File.Replace(at, at, " # "+label))
}

// tail returns the offset behind a scalar that is the last thing on its line but for a comment.
func tail(t yamlfile.Text) (at int, ok bool) {
	start, end, exact := t.Range(0, len(t.Value))
	if !exact || strings.Contains(t.Value, "\n") {
		return 0, false
	}
	line := t.File.Position(start, start).Line
	first, text := t.File.LineStart(line), t.File.Line(line)
	if end > first+len(text) {
		return 0, false
	}
	rest := text[end-first:]
	if start > first && rest != "" && (rest[0] == '"' || rest[0] == '\'') && t.File.Data[start-1] == rest[0] {
		end, rest = end+1, rest[1:]
	}
	trimmed := strings.TrimLeft(rest, " \t")
	return end, trimmed == "" || trimmed[0] == '#' && trimmed != rest
}

// comment is the grammar of the version beside a pin: "# v4.2.1" and what tools have made of it,
// "# tag=v4.2.1", "# pin@v4.2.1".
var comment = lazyregexp.New(`^#\s*(?:tag=|pin@|ratchet:\S+@|renovate: tag=)?([A-Za-z0-9][A-Za-z0-9._/-]{0,127})(?:\s|$)`)

// Comment returns the tag in the comment behind a pin, or "".
func Comment(t yamlfile.Text) string {
	at, ok := tail(t)
	if !ok {
		return ""
	}
	first, last := said(t, at)
	return string(t.File.Data[first:last])
}

// said returns where the tag is in the comment behind an offset, or an empty range.
func said(t yamlfile.Text, at int) (first, last int) {
	line := t.File.Position(at, at).Line
	rest := t.File.Line(line)[at-t.File.LineStart(line):]
	space := len(rest) - len(strings.TrimLeft(rest, " \t"))
	m := comment.FindStringSubmatchIndex(rest[space:])
	if m == nil || !strings.ContainsAny(rest[space+m[2]:space+m[3]], "0123456789") {
		return at, at
	}
	return at + space + m[2], at + space + m[3]
}

// CheckImage finds an image that is named by tag in a text, which has other things only before the
// name. rule is that of the finding.
func CheckImage(ctx context.Context, r *Resolver, rule string, t yamlfile.Text, name string) []finding.Finding {
	if strings.Contains(name, "@") || name == "" || name == "scratch" {
		return nil
	}
	if strings.ContainsAny(name, "$ ") {
		if !script.ByTag(name) {
			return nil
		}
		return []finding.Finding{{Rule: rule, Position: t.Position(0, len(t.Value)), Message: name + " is an image by tag", Mend: "write NAME:TAG@sha256:DIGEST"}}
	}
	f := finding.Finding{Rule: rule, Position: t.Position(0, len(t.Value)), Message: "the image " + name + " is whatever its tag points to when it runs", Mend: "write " + name + "@sha256:DIGEST"}
	digest, err := r.Digest(ctx, name)
	switch {
	case err == nil:
		f.Mend = "write " + name + "@" + digest
		// NAME:TAG@DIGEST keeps the tag, and every runtime takes the digest.
		f.Edits = t.Replace(len(t.Value), len(t.Value), "@"+digest)
	case !errors.Is(err, ErrNotAsked):
		f.Mend += "; its digest is not known: " + err.Error()
	}
	return []finding.Finding{f}
}

// CheckImages finds the images of a list that are named by tag.
func CheckImages(ctx context.Context, r *Resolver, rule string, images []yamlfile.Text) (found []finding.Finding) {
	for _, t := range images {
		found = append(found, CheckImage(ctx, r, rule, t, t.Value)...)
	}
	return found
}

// Repin returns the edits that replace a pin, and the tag in the comment behind it. Without such a
// comment, it writes one. It returns none where no comment can stand.
func Repin(t yamlfile.Text, start, end int, pin, label string) []finding.Edit {
	old := Comment(t)
	if old == "" {
		return Pin(t, start, end, pin, label)
	}
	edits := t.Replace(start, end, pin)
	at, _ := tail(t)
	first, last := said(t, at)
	if edits == nil || strings.ContainsAny(label, "\r\n") {
		return nil
	}
	return append(edits, t.File.Replace(first, last, label))
}
