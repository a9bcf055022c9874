package oci

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
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
