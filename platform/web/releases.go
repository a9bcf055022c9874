package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

// maxShown is the maximum size of an answer that a page is made of, in bytes. Of a longer
// log, the page shows the beginning.
const maxShown = 8 << 20

// pages makes pages from what the platform's own port answers to the viewer, so that a page
// shows nothing that its viewer may not read.
type pages struct {
	cfg  Config
	port http.Handler
}

// ask asks the platform's port for path as the viewer who sent r.
func (p *pages) ask(r *http.Request, path string) *answer {
	a := &answer{header: http.Header{}, status: http.StatusOK}
	in := r.Clone(r.Context())
	in.Method, in.Body, in.ContentLength, in.Header = http.MethodGet, http.NoBody, 0, http.Header{}
	u, err := url.Parse(path)
	if err != nil {
		a.status = http.StatusBadRequest
		return a
	}
	in.URL, in.RequestURI = u, path
	if auth := r.Header.Get("Authorization"); auth != "" {
		in.Header.Set("Authorization", auth)
	}
	if _, password, ok := r.BasicAuth(); ok && strings.HasPrefix(path, api.PathReleases) {
		in.Header.Set("Authorization", "Bearer "+password)
	}
	p.port.ServeHTTP(a, in)
	return a
}

// answer keeps the beginning of an answer.
type answer struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
	cut    bool
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if !a.wrote {
		a.status, a.wrote = status, true
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.wrote = true
	if left := maxShown - a.body.Len(); len(b) > left {
		a.cut = true
		a.body.Write(b[:left])
	} else {
		a.body.Write(b)
	}
	return len(b), nil
}

// json reads a whole answer.
func (a *answer) json(v any) error {
	if a.status != http.StatusOK || a.cut {
		return fmt.Errorf("status %d", a.status)
	}
	return json.Unmarshal(a.body.Bytes(), v)
}

// refuse answers a page that could not be made because of the answer a.
func refuse(w http.ResponseWriter, a *answer) {
	switch a.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="colophon"`)
		show(w, http.StatusUnauthorized, "refused", "This page is for those who may release here. Give any name, and as the password the token of your client.json.")
	case http.StatusNotFound, http.StatusBadRequest, http.StatusConflict:
		show(w, http.StatusNotFound, "refused", "There is nothing of this name, or it is not kept any more.")
	default:
		show(w, http.StatusBadGateway, "refused", "The platform cannot answer this now.")
	}
}

func (p *pages) releases(w http.ResponseWriter, r *http.Request) {
	a := p.ask(r, api.PathReleases+"?limit=100")
	var all api.Runs
	if err := a.json(&all); err != nil {
		refuse(w, a)
		return
	}
	show(w, http.StatusOK, "releases", all.Releases)
}

func (p *pages) release(w http.ResponseWriter, r *http.Request) {
	a := p.ask(r, api.PathReleases+"/"+url.PathEscape(r.PathValue("id")))
	var run api.Run
	if err := a.json(&run); err != nil {
		refuse(w, a)
		return
	}
	var repository string
	if run.Result != nil { // of a release that failed, the registry may have no such repository
		repository = p.here(run.Image)
	}
	show(w, http.StatusOK, "release", &struct { // a pointer, because Run has methods of one
		api.Run
		Repository string // of this platform's registry, if the image was released there
		URL        string
	}{run, repository, p.cfg.URL})
}

func (p *pages) log(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	a := p.ask(r, api.PathReleases+"/"+url.PathEscape(id)+"/log")
	if a.status != http.StatusOK {
		refuse(w, a)
		return
	}
	var lines []string
	in := bufio.NewScanner(&a.body)
	in.Buffer(nil, api.MaxEvent)
	for in.Scan() {
		var e api.Event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			break // the answer was cut here
		}
		text := []string{e.Time.UTC().Format("15:04:05"), e.Phase, e.Step, e.Line}
		if e.Error != nil {
			text = append(text, e.Error.Message)
		}
		text = slices.DeleteFunc(text, func(s string) bool { return s == "" })
		lines = append(lines, printable.Line(strings.Join(text, " ")))
	}
	show(w, http.StatusOK, "log", struct {
		ID    string
		Lines []string
		Cut   bool
	}{id, lines, a.cut})
}

func (p *pages) repositories(w http.ResponseWriter, r *http.Request) {
	a := p.ask(r, "/v2/_catalog?n=1000")
	var all struct{ Repositories []string }
	if err := a.json(&all); err != nil {
		refuse(w, a)
		return
	}
	show(w, http.StatusOK, "repositories", all.Repositories)
}

// A shownTag is a tag of a repository, and the release of this platform that made it, if
// the viewer may see releases.
type shownTag struct {
	Name    string
	Release *api.Run
}

func (p *pages) repository(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	a := p.ask(r, (&url.URL{Path: "/v2/" + name + "/tags/list"}).EscapedPath())
	var tags struct{ Tags []string }
	if err := a.json(&tags); err != nil {
		refuse(w, a)
		return
	}
	image := p.host() + "/" + name
	made := map[string]*api.Run{}
	var all api.Runs
	if r.Header.Get("Authorization") != "" {
		_ = p.ask(r, api.PathReleases+"?limit=1000&state=released&image="+url.QueryEscape(image)).json(&all) // those who may not see them see the tags alone
	}
	for i, run := range all.Releases {
		for _, tag := range run.Result.Tags {
			if run.Image == image {
				made[tag] = &all.Releases[i]
			}
		}
	}
	page := struct {
		Name, Image, URL string
		Tags             []shownTag
	}{Name: name, Image: image, URL: p.cfg.URL}
	for _, tag := range tags.Tags {
		run := made[tag]
		if run != nil && p.digest(r, name, tag) != run.Result.Digest { // somebody removed that tag and made this one
			run = nil
		}
		page.Tags = append(page.Tags, shownTag{tag, run})
	}
	show(w, http.StatusOK, "repository", page)
}

// digest returns what a tag names now, as the registry says; "" if it does not say.
func (p *pages) digest(r *http.Request, name, tag string) string {
	a := p.ask(r, (&url.URL{Path: "/v2/" + name + "/manifests/" + tag}).EscapedPath())
	if a.status != http.StatusOK {
		return ""
	}
	return a.header.Get("Docker-Content-Digest")
}

func (p *pages) host() string {
	_, host, _ := strings.Cut(p.cfg.URL, "://")
	return strings.TrimSuffix(host, "/")
}

// here returns the name of an image in this platform's registry, or "".
func (p *pages) here(image string) string {
	name, ok := strings.CutPrefix(image, p.host()+"/")
	if !ok {
		return ""
	}
	return name
}
