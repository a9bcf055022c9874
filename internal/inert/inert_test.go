package inert

import (
	"bytes"
	"html/template"
	"strings"
	"testing"
)

// TestHead: text of strangers stays text, and the policy allows the page's own style alone.
func TestHead(t *testing.T) {
	page := template.Must(template.New("page").Parse(Head + `{{template "head" .}}<body>{{.Title}}</body>`))
	var b bytes.Buffer
	if err := page.Execute(&b, Page{Title: `</title><script>alert(1)</script>`, Style: "body { margin: 0 }"}); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if strings.Contains(got, "<script") || strings.Count(got, "</title>") != 1 {
		t.Errorf("the title is markup:\n%s", got)
	}
	// printf 'body { margin: 0 }' | openssl dgst -sha256 -binary | base64
	for _, want := range []string{"<!doctype html>\n", "default-src &#39;none&#39;", "style-src &#39;sha256-mX&#43;s7KJgWpgxJola85xdpAFPBQaV091gzM2oPjgTW2w=&#39;", "<style>body { margin: 0 }</style>"} {
		if !strings.Contains(got, want) {
			t.Errorf("got no %q in\n%s", want, got)
		}
	}
	if p := Picture([]byte("<svg/>")); p != "data:image/svg+xml;base64,PHN2Zy8+" {
		t.Errorf("got %q", p)
	}
}
