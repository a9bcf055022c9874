// Package web serves the platform's pages for people: repositories and their tags, releases
// and their logs, how to verify, and a page for each builder at the URL that is its id.
package web

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"time"

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

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") },
	"path": func(prefix, name string) string { return (&url.URL{Path: prefix + name}).EscapedPath() },
}).Parse(`
{{define "head"}}<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Colophon</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}code,pre{font-size:.9em;overflow-wrap:anywhere}td{padding:.2rem 1rem .2rem 0;vertical-align:top}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}</style>{{end}}
{{define "/"}}{{template "head"}}<h1>Colophon</h1>
<p>This platform proves which git commit a container image came from. Version {{.Version}}.</p>
<h2>What is here</h2>
<ul>
<li><a href="/repositories">Repositories</a> of the registry, with their tags
<li><a href="/releases">Releases</a> that were asked for, and their logs; for those who may release here
</ul>
<h2>Verify an image from here</h2>
<p>Once: trust this platform. Compare this fingerprint with one that you got another way, because this page proves nothing:</p>
<pre>{{.Fingerprint}}</pre>
<pre>colophon trust add {{.URL}}</pre>
<p>Then say which repository an image should come from:</p>
<pre>colophon verify {{.Host}}/NAME:TAG --source https://GIT-HOST/OWNER/REPOSITORY</pre>
<p>Exit code 0 means accepted, 3 rejected, 4 undecided. Whoever verifies needs no account here.</p>
<h2>Services</h2>
<table>
<tr><td>Builders<td>{{range .Builders}}<a href="{{.ID}}">{{.ID}}</a>, Build L{{.Level}}<br>{{end}}
<tr><td>Trust<td><a href="/.well-known/colophon.json">trust document</a>, <a href="/trusted_root.json">trusted root</a>, <a href="/signing_config.json">signing config</a>, <a href="/tuf/1.root.json">TUF root</a>
<tr><td>Issuer<td><a href="/.well-known/openid-configuration">OpenID configuration</a>
<tr><td>Log<td><a href="/api/v2/checkpoint">checkpoint</a>
<tr><td>Registry<td><code>/v2/</code>
<tr><td>Health<td><a href="/readyz">ready</a>, <a href="/metrics">metrics</a>
</table>{{end}}
{{define "home"}}<p><a href="/">Colophon</a> · <a href="/repositories">repositories</a> · <a href="/releases">releases</a></p>{{end}}
{{define "refused"}}{{template "head"}}{{template "home"}}<p>{{.}}</p>{{end}}
{{define "repositories"}}{{template "head"}}{{template "home"}}<h1>Repositories</h1>
{{if .}}<ul>{{range .}}<li><a href="{{path "/repositories/" .}}">{{.}}</a>{{end}}</ul>{{else}}<p>None that you may see.</p>{{end}}{{end}}
{{define "repository"}}{{template "head"}}{{template "home"}}<h1>{{.Name}}</h1>
<table>{{range .Tags}}<tr><td><code>{{.Name}}</code><td>{{with .Release}}accepted and released {{time .Ended}}, <a href="/releases/{{.ID}}">from {{.Ref}}</a>{{else}}not known to you as a release of this platform: verify it{{end}}{{else}}<tr><td>No tags.{{end}}</table>
<p>This page proves nothing. Ask for a verdict of your own, and say which repository the image should come from:</p>
<pre>colophon trust add {{.URL}}
colophon verify {{.Image}}:TAG --source https://GIT-HOST/OWNER/REPOSITORY</pre>{{end}}
{{define "releases"}}{{template "head"}}{{template "home"}}<h1>Releases</h1>
<table><tr><th>Release<th>State<th>Image<th>Ref<th>Asked by<th>Asked{{range .}}<tr><td><a href="/releases/{{.ID}}">{{.Short}}</a><td>{{.State}}<td>{{.Image}}<td>{{.Ref}}<td>{{.Actor}}<td>{{time .Asked}}{{else}}<tr><td>None yet.{{end}}</table>{{end}}
{{define "release"}}{{template "head"}}{{template "home"}}<h1>Release {{.Short}}</h1>
<table>
<tr><td>State<td>{{.State}}{{with .Error}}: <pre>{{.Message}}</pre>{{end}}
<tr><td>Image<td>{{if .Repository}}<a href="{{path "/repositories/" .Repository}}">{{.Image}}</a>{{else}}{{.Image}}{{end}}
<tr><td>Source<td><code>{{.Source}}</code>, {{.Ref}}{{with .Commit}}, commit <code>{{.}}</code>{{end}}
<tr><td>Asked<td>{{with .Actor}}by {{.}}, {{end}}{{time .Asked}}
{{with .Result}}<tr><td>Digest<td><code>{{.Digest}}</code>
<tr><td>Tags<td>{{range .Tags}}<code>{{.}}</code> {{end}}
<tr><td>Verdict<td>accepted before it was tagged, SLSA Build L{{.Level}}
{{end}}</table>
{{if .Actor}}<p><a href="/releases/{{.ID}}/log">Log</a></p>{{end}}
{{with .Result}}<p>Verify it:</p><pre>colophon trust add {{$.URL}}
colophon verify {{.Image}}@{{.Digest}} --source {{.Source.URI}}</pre>{{end}}{{end}}
{{define "log"}}{{template "head"}}{{template "home"}}<h1>Log of release <a href="/releases/{{.ID}}">{{.ID}}</a></h1>
<pre>{{range .Lines}}{{.}}
{{end}}</pre>{{if .Cut}}<p>The log is longer: colophon releases log {{.ID}}</p>{{end}}{{end}}
{{define "builder"}}{{template "head"}}<h1>Builder</h1>
<table>
<tr><td>Id<td><code>{{.ID}}</code>
<tr><td>Build type<td><a href="{{.BuildType}}">{{.BuildType}}</a>
<tr><td>SLSA<td>Build L{{.Level}}
</table>
<p><a href="/">The platform it belongs to</a></p>{{end}}`))

// Register adds the pages to mux. The pages of what the platform has are made from what mux
// answers to their viewer.
func Register(mux *http.ServeMux, cfg Config) error {
	p := &pages{cfg: cfg, port: mux}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		show(w, http.StatusOK, "/", struct {
			Config
			Host string
		}{cfg, p.host()})
	})
	mux.HandleFunc("GET /repositories", p.repositories)
	mux.HandleFunc("GET /repositories/{name...}", p.repository)
	mux.HandleFunc("GET /releases", p.releases)
	mux.HandleFunc("GET /releases/{id}", p.release)
	mux.HandleFunc("GET /releases/{id}/log", p.log)
	mux.HandleFunc("GET /schemas/{file}", schema)
	for _, b := range cfg.Builders {
		u, err := url.Parse(b.ID)
		if err != nil {
			return err
		}
		mux.HandleFunc("GET "+u.EscapedPath(), func(w http.ResponseWriter, _ *http.Request) { show(w, http.StatusOK, "builder", b) })
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

// show answers with a page. It has no script and loads nothing; nothing frames or stores it.
func show(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, "this page cannot be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(page.Bytes())
}
