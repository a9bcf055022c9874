package oci

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestTags(t *testing.T) {
	digest := strings.Repeat("a", 64)
	pages := []string{
		`{"name":"team/app","tags":["v1","sha256-` + digest + `","v2"]}`,
		`{"name":"team/app","tags":["v2","sha256-` + digest + `.sig","sha256-short"]}`,
	}
	for what, test := range map[string]struct {
		pages []string
		want  string // tags and the count of attachments, or a word of the error
	}{
		"two pages":              {pages, "v1 v2 sha256-short 2"},
		"none":                   {[]string{`{"name":"team/app","tags":null}`}, "0"},
		"no tag":                 {[]string{`{"tags":["../../x"]}`}, "not a tag"},
		"a list that goes on":    {[]string{`{"tags":["v1"]}`, `{"tags":["v1"]}`, `{"tags":["v2"]}`}, "without a new tag"},
		"two readers may differ": {[]string{`{"tags":["v1"],"tags":["v2"]}`}, "duplicate"},
		"unknown repository":     {nil, "404 Not Found"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("page"))
			if n >= len(test.pages) {
				http.Error(w, `{"errors":[{"code":"NAME_UNKNOWN"}]}`, http.StatusNotFound)
				return
			}
			if n+1 < len(test.pages) {
				w.Header().Set("Link", `</v2/team/app/tags/list?page=`+strconv.Itoa(n+1)+`>; rel="next"`)
			}
			w.Write([]byte(test.pages[n]))
		}))
		reg, err := OpenRegistry(strings.TrimPrefix(srv.URL, "http://")+"/team/app", RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tags, attachments, err := reg.Tags(t.Context())
		got := strings.Join(append(tags, strconv.Itoa(attachments)), " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != test.want || err != nil && !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", what, got, test.want)
		}
		if what == "unknown repository" && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
		srv.Close()
	}
}

func TestAttachmentTags(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	subject := v1.Hash{Algorithm: "sha256", Hex: hex}
	for tag, want := range map[string]CosignTag{
		fallbackTag(subject): "", CosignSignatures.Of(subject): CosignSignatures, CosignAttestations.Of(subject): CosignAttestations, CosignSBOM.Of(subject): CosignSBOM,
	} {
		if algorithm, kind, ok := ParseAttachmentTag(tag); !ok || algorithm != "sha256" || kind != want || !isAttachment(tag) {
			t.Errorf("%s: got %q, %q, %v, want the kind %q", tag, algorithm, kind, ok, want)
		}
	}
	if CosignSignatures.Of(subject) != "sha256-"+hex+".sig" || CosignAttestations.Of(subject) != "sha256-"+hex+".att" || CosignSBOM.Of(subject) != "sha256-"+hex+".sbom" {
		t.Error("these are not the names that cosign v2 gives")
	}
	if algorithm, kind, ok := ParseAttachmentTag("sha512-" + hex); !ok || algorithm != "sha512" || kind != "" || isAttachment("sha512-"+hex) {
		t.Error("sha512: want a fallback tag, and a version all the same")
	}
	for _, tag := range []string{"", "v1", "sha256", "sha256-", "sha256-abc", "sha256-" + hex + "0", "sha256-" + strings.ToUpper(hex), "sha1-" + hex, "md5-" + hex,
		"sha256-" + hex + ".", "sha256-" + hex + ".v1", "sha256-" + hex + ".sig.sig", "sha256-" + hex + "sig", "sha256-" + hex + "\n", "x-sha256-" + hex, "sha256:" + hex} {
		if _, _, ok := ParseAttachmentTag(tag); ok || isAttachment(tag) {
			t.Errorf("%q is taken for an attachment", tag)
		}
	}
}
