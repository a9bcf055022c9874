// Package web serves the platform's pages for people: a front page that links to its
// services, and a page for each builder at the URL that is the builder's id.
package web

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"

	"github.com/colophon-build/colophon/spec/schemas"
)

// Config of the pages.
type Config struct {
	URL         string // the platform's origin
	Version     string
	Fingerprint string // fingerprint of the trust document
	Builders    []Builder
}

// Builder is a builder of the platform; its page is at ID.
type Builder struct {
	ID        string // a URL of this platform
	BuildType string // URI of its specification
	Level     int    // SLSA Build level
}

var pages = template.Must(template.New("").Parse(`
{{define "head"}}<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Colophon</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}code,pre{font-size:.9em;overflow-wrap:anywhere}td{padding:.2rem 1rem .2rem 0;vertical-align:top}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}</style>{{end}}
{{define "/"}}{{template "head"}}<h1>Colophon</h1>
<p>This platform proves which git commit a container image came from. Version {{.Version}}.</p>
<p>Before you trust this platform, compare this fingerprint with one that you got another way:</p>
<pre>{{.Fingerprint}}</pre>
<pre>colophon trust add {{.URL}}</pre>
<table>
<tr><td>Builders<td>{{range .Builders}}<a href="{{.ID}}">{{.ID}}</a>, Build L{{.Level}}<br>{{end}}
<tr><td>Trust<td><a href="/.well-known/colophon.json">trust document</a>, <a href="/trusted_root.json">trusted root</a>, <a href="/signing_config.json">signing config</a>, <a href="/tuf/1.root.json">TUF root</a>
<tr><td>Issuer<td><a href="/.well-known/openid-configuration">OpenID configuration</a>
<tr><td>Log<td><a href="/api/v2/checkpoint">checkpoint</a>
<tr><td>Registry<td><code>/v2/</code>
<tr><td>Health<td><a href="/readyz">ready</a>, <a href="/metrics">metrics</a>
</table>{{end}}
{{define "builder"}}{{template "head"}}<h1>Builder</h1>
<table>
<tr><td>Id<td><code>{{.ID}}</code>
<tr><td>Build type<td><a href="{{.BuildType}}">{{.BuildType}}</a>
<tr><td>SLSA<td>Build L{{.Level}}
</table>
<p><a href="/">The platform it belongs to</a></p>{{end}}`))

// Register adds the pages to mux. It renders them once; they contain nothing from a
// request.
func Register(mux *http.ServeMux, cfg Config) error {
	front, err := render("/", cfg)
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /{$}", front)
	mux.HandleFunc("GET /schemas/{file}", schema)
	for _, b := range cfg.Builders {
		u, err := url.Parse(b.ID)
		if err != nil {
			return err
		}
		page, err := render("builder", b)
		if err != nil {
			return err
		}
		mux.HandleFunc("GET "+u.EscapedPath(), page)
	}
	return nil
}

// schema serves a JSON Schema. Pages of other origins may read it, as editors in a browser do.
func schema(w http.ResponseWriter, r *http.Request) {
	raw, err := schemas.Files.ReadFile(r.PathValue("file"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/schema+json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(raw) // the client is gone
}

func render(name string, data any) (http.HandlerFunc, error) {
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, data); err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		w.Write(page.Bytes())
	}, nil
}
