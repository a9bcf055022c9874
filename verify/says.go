package verify

import (
	"fmt"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/source"
)

// maxSaid is the maximum size of an annotation that a link repeats, in bytes.
const maxSaid = 200

// contradictions adds to the image link what the image's own annotations say otherwise than
// its proof. Other tools show the annotations as facts. They decide nothing here: they prove
// nothing, and builders other than Colophon's write into them what they like.
func (c *check) contradictions(v *Verdict) {
	if v.Facts == nil || v.Facts.Build == nil {
		return
	}
	for i := range v.Links {
		if l := &v.Links[i]; l.Name == LinkImage && l.Status == Holds {
			l.Claim += contradicted(c.read.annotations, v.Facts.Build.Source, v.Facts.Build.Commit)
		}
	}
}

func contradicted(annotations map[string]string, provedSource, provedCommit string) (out string) {
	differ := func(name, proved string, same func(string) bool) {
		if text := annotations[name]; text != "" && proved != "" && !same(text) {
			out += fmt.Sprintf("; its annotation %s says %q, but the proof says %s", name, printable.Cut(text, maxSaid), proved)
		}
	}
	differ(ocispecs.AnnotationSource, provedSource, func(text string) bool {
		uri, err := source.Canonical(text)
		return err == nil && uri == provedSource
	})
	differ(ocispecs.AnnotationRevision, provedCommit, func(text string) bool { return text == provedCommit })
	return out
}
