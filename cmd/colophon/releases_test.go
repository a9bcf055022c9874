package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
)

// journal is a platform with one failed release, whose build printed what would control
// a terminal.
func journal(t *testing.T, asked *[]string) http.Handler {
	id := "3f2a91c0" + strings.Repeat("0", 24)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run := api.Run{
		ID: id, State: api.Failed, Actor: "admin", Image: "r.example.com/a\x1b[2J", Source: "https://git.example.com/a", Ref: "v1", Commit: strings.Repeat("c", 40),
		Asked: at, Started: at, Ended: at.Add(90 * time.Second), Error: &api.Error{Message: "exit code 1\nline two", Hint: "mend it\x1b"},
	}
	mux := http.NewServeMux()
	handle := func(pattern string, answer func(http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			*asked = append(*asked, r.Method+" "+r.URL.RequestURI())
			if r.Header.Get("Authorization") != "Bearer t" {
				t.Errorf("%s: without the token", r.URL)
			}
			answer(w, r)
		})
	}
	handle("GET "+api.PathReleases, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(api.Runs{Releases: []api.Run{run}})
	})
	handle("GET "+api.PathReleases+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		full := run
		full.Request = &api.ReleaseRequest{Source: run.Source, Ref: run.Ref, Image: "r.example.com/a", Recipe: attest.Recipe{Context: "services/web"}}
		switch r.PathValue("id") {
		case "aaaa":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"no such release","hint":"list"}`)
			return
		case "bbbb": // the platform answers another one
		case "3f2a", id:
		}
		json.NewEncoder(w).Encode(full)
	})
	handle("GET "+api.PathReleases+"/{id}/log", func(w http.ResponseWriter, r *http.Request) {
		for _, e := range []api.Event{
			{Time: at, Phase: "queue", ID: id}, {Time: at.Add(time.Second), Phase: "build", Step: "golang"},
			{Time: at.Add(2 * time.Second), Phase: "build", Step: "RUN make", Line: "\x1b]0;owned\x07text"},
			{Time: at.Add(3 * time.Second), Phase: "failed", Error: run.Error},
		} {
			json.NewEncoder(w).Encode(e)
		}
	})
	handle("POST "+api.PathReleases+"/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "cccc" {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"message":"release cccc is being published"}`)
			return
		}
		gone := run
		gone.State = api.Cancelled
		json.NewEncoder(w).Encode(gone)
	})
	handle("POST "+api.PathReleases, func(w http.ResponseWriter, r *http.Request) {
		req, _, err := api.ReadReleaseRequest(r.Body)
		if err != nil || req.Commit != run.Commit {
			t.Errorf("got %+v, %v, want a request for the same commit", req, err)
		}
		fmt.Fprintf(w, `{"result":{"image":"r.example.com/a","digest":"sha256:%064d","tags":["v1"],"source":{"uri":"https://git.example.com/a","commit":%q},"level":3}}`+"\n", 1, run.Commit)
	})
	return mux
}

func TestReleases(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(journal(t, &asked))
	defer srv.Close()
	config := filepath.Join(t.TempDir(), "client.json")
	if err := os.WriteFile(config, []byte(`{"url":"`+srv.URL+`","token":"t","fingerprint":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_PLATFORM", config)
	for _, tt := range []struct {
		args  string
		code  int
		asked string // of the platform
		says  []string
	}{
		{"", exitOK, "GET ?limit=20", []string{"ID        STATE", "3f2a91c0  failed", "admin", "2026-01-02 03:04:05Z  1m30s"}},
		{"--state failed --image a --limit 3", exitOK, "GET ?image=a&limit=3&state=failed", nil},
		{"-q", exitOK, "GET ?limit=20", []string{"3f2a91c0" + strings.Repeat("0", 24) + "\n"}},
		{"-o template={{range.releases}}{{.actor}}{{end}}", exitOK, "GET ?limit=20", []string{"admin\n"}},
		{"--state broken", exitUsage, "", []string{"waiting, running, publishing"}},
		{"--limit 0", exitUsage, "", nil},
		{"show 3f2a", exitOK, "GET /3f2a", []string{"state     failed", "asked by  admin", "error     exit code 1\n", "error     line two", "took      1m30s"}},
		{"show URL", exitOK, "GET /3f2a91c0" + strings.Repeat("0", 24), []string{"state     failed"}},
		{"show https://other.example/api/colophon/v1/releases/3f2a", exitUsage, "", []string{"is no release of the platform"}},
		{"show ../x", exitUsage, "", []string{"expected its id"}},
		{"show 3f", exitUsage, "", []string{"first 4 or more"}},
		{"show aaaa", exitFailure, "GET /aaaa", []string{"no such release\nhint: list"}},
		{"show bbbb", exitFailure, "GET /bbbb", []string{`begin with "bbbb"`}},
		{"show 3f2a --json", exitOK, "GET /3f2a", []string{`"request": {`}},
		{"log 3f2a", exitOK, "GET /3f2a/log", []string{"0.0s queue release 3f2a91c0", "1.0s build golang", "RUN make", "text", "exit code 1\n    line two", "hint: mend it"}},
		{"log -f 3f2a", exitOK, "GET /3f2a/log?follow=true", nil},
		{"cancel 3f2a", exitOK, "POST /3f2a/cancel", []string{"cancelled 3f2a91c0"}},
		{"cancel cccc", exitFailure, "POST /cccc/cancel", []string{"release cccc is being published"}},
		{"retry 3f2a", exitOK, "GET /3f2a POST ", []string{"released", "--source https://git.example.com/a --context services/web\n"}},
		{"retry -q 3f2a", exitOK, "GET /3f2a POST ", []string{"r.example.com/a@sha256:"}},
		{"retry", exitUsage, "", nil},
	} {
		asked = nil
		var out bytes.Buffer
		root := newRootCommand()
		root.SetOut(&out)
		root.SetErr(&out)
		args := strings.ReplaceAll(tt.args, "URL", srv.URL+api.PathReleases+"/3f2a91c0"+strings.Repeat("0", 24))
		root.SetArgs(append([]string{"releases"}, strings.Fields(args)...))
		if code := execute(t.Context(), root); code != tt.code {
			t.Errorf("%s: got exit code %d, want %d\n%s", tt.args, code, tt.code, &out)
		}
		if got := strings.ReplaceAll(strings.Join(asked, " "), api.PathReleases, ""); got != tt.asked {
			t.Errorf("%s: asked %q, want %q", tt.args, got, tt.asked)
		}
		for _, want := range tt.says {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: got %q, want %q", tt.args, &out, want)
			}
		}
		if strings.ContainsAny(out.String(), "\x1b\x07") {
			t.Errorf("%s: a control character reaches the terminal: %q", tt.args, &out)
		}
	}
}
