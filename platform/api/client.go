package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
)

// MaxEvent bounds one line of a release's progress, in bytes.
const MaxEvent = 1 << 20

// ErrNoPlatform means that this user has not run `colophon login`.
var ErrNoPlatform = errors.New("no platform configured")

// ErrVariable means that COLOPHON_PLATFORM names no client.json that can be read.
var ErrVariable = errors.New("COLOPHON_PLATFORM")

// PIDFile is the name of the file, in run/ of a data directory, that has the process id of
// serve while it runs.
const PIDFile = "serve.pid"

// ConfigDir returns the directory of this user's configuration.
func ConfigDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "colophon"), nil
}

// configPath returns the file in which `colophon login` saves the platform.
func configPath() (string, error) {
	dir, err := ConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "platform.json"), nil
}

// LoadConfig reads the configuration of the platform to use, from the file that
// COLOPHON_PLATFORM names, else from configPath. If this user has not logged in, the
// error matches ErrNoPlatform; if the fault is in what COLOPHON_PLATFORM names, ErrVariable.
func LoadConfig() (*ClientConfig, error) {
	if path := os.Getenv("COLOPHON_PLATFORM"); path != "" {
		c, err := ReadConfig(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrVariable, err)
		}
		return c, nil
	}
	path, err := configPath()
	if err != nil {
		return nil, err
	}
	c, err := ReadConfig(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoPlatform
	}
	return c, err
}

// ReadConfig reads a client.json.
func ReadConfig(path string) (*ClientConfig, error) {
	data, err := strict.ReadFile(path, limits.Request)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, strict.In(path, err)
	}
	return c, nil
}

// ParseConfig reads a client.json strictly.
func ParseConfig(data []byte) (*ClientConfig, error) {
	var c ClientConfig
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		return nil, err
	}
	if c.URL == "" {
		return nil, errors.New("the platform has not written its address here yet: colophond serve does so when it is ready")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("platform URL: expected https://HOST[:PORT], or http:// on loopback, found %q", c.URL)
	case !loopback.OrTLS(u): // the token would travel in the clear
		return nil, fmt.Errorf("platform URL %q: plain HTTP is for loopback only; use https", c.URL)
	case c.Token == "" || strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, errors.New("the file holds no valid token")
	}
	return &c, nil
}

// Login saves the content of file, a client.json, so that LoadConfig returns it. path is
// where it is saved.
func Login(file string) (c *ClientConfig, path string, err error) {
	if c, err = ReadConfig(file); err != nil {
		return nil, "", err
	}
	if path, err = configPath(); err != nil {
		return nil, "", err
	}
	return c, path, saveConfig(path, c)
}

// saveConfig writes c to path, with mode 0600.
func saveConfig(path string, c *ClientConfig) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

// Release asks the platform for a release and calls progress for each event. A failure
// that the platform explains is an *Error. If ctx is cancelled, the platform cancels the
// release too, unless it is already publishing it, and the error matches ctx's. The same
// request again finishes the release or returns the finished one.
func (c *ClientConfig) Release(ctx context.Context, req ReleaseRequest, progress func(Event)) (*Release, error) {
	last, err := c.stream(ctx, PathReleases, req, progress)
	if err != nil {
		return nil, err
	}
	if last.Result == nil {
		return nil, fmt.Errorf("platform %s: got an answer without a release", c.URL)
	}
	if err := last.Result.matches(req); err != nil {
		return nil, fmt.Errorf("platform %s: %w", c.URL, err)
	}
	return last.Result, nil
}

// Declared asks the platform which images the commit of a request without an image
// declares. Its errors are those of Release.
func (c *ClientConfig) Declared(ctx context.Context, req ReleaseRequest, progress func(Event)) (*Declared, error) {
	last, err := c.stream(ctx, PathDeclared, req, progress)
	if err != nil {
		return nil, err
	}
	switch d := last.Declared; {
	case d == nil:
		return nil, fmt.Errorf("platform %s: got an answer without the declared images", c.URL)
	case !source.IsCommitID(d.Commit):
		return nil, fmt.Errorf("platform %s: commit: got %q, want a commit id", c.URL, d.Commit)
	case req.Commit != "" && d.Commit != req.Commit:
		return nil, fmt.Errorf("platform %s: commit: got %q, want %q", c.URL, d.Commit, req.Commit)
	}
	return last.Declared, nil
}

// stream sends a request, calls progress for each event but the last, and returns the last
// one.
func (c *ClientConfig) stream(ctx context.Context, path string, req ReleaseRequest, progress func(Event)) (*Event, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	resp, err := c.call(ctx, http.MethodPost, path, body, http.StatusOK)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	last, err := c.events(ctx, resp.Body, progress)
	switch {
	case err != nil:
		return nil, err
	case last == nil:
		return nil, &Error{Message: fmt.Sprintf("platform %s closed the connection before the release ended", c.URL), Hint: "run the same command again: it finishes the release"}
	case last.Error != nil:
		return nil, last.Error
	}
	return last, nil
}

// events calls progress for each event of a stream but the last, and returns that. It
// returns nil if the stream ends before there is a result or an error.
func (c *ClientConfig) events(ctx context.Context, stream io.Reader, progress func(Event)) (*Event, error) {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, MaxEvent)
	for lines.Scan() {
		var e Event
		if err := strict.Unmarshal(lines.Bytes(), MaxEvent, &e); err != nil {
			return nil, fmt.Errorf("platform %s: event: %w", c.URL, err)
		}
		if e.Error != nil || e.Result != nil || e.Declared != nil {
			return &e, nil
		}
		progress(e)
	}
	return nil, ctx.Err()
}

// SigningConfig fetches the platform's signing config: the URLs of its CA, log and
// timestamp authority (Sigstore protobuf-specs, JSON).
func (c *ClientConfig) SigningConfig(ctx context.Context) ([]byte, error) {
	resp, err := c.open(ctx, PathSigning)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return strict.Read(resp.Body, limits.TrustRoot)
}

// Images returns the names of images on the platform, without its host: those of the first
// page of its catalog.
func (c *ClientConfig) Images(ctx context.Context) ([]string, error) {
	var answer struct {
		Repositories []string `json:"repositories"`
	}
	err := c.get(ctx, "/v2/_catalog", &answer)
	return answer.Repositories, err
}

// Tags returns the tags of an image on the platform: those of the first page.
func (c *ClientConfig) Tags(ctx context.Context, image string) ([]string, error) {
	if !imageName.MatchString(image) {
		return nil, fmt.Errorf("image: got %q, want a name", image)
	}
	var answer struct {
		Tags []string `json:"tags"`
	}
	err := c.get(ctx, "/v2/"+image+"/tags/list", &answer)
	return answer.Tags, err
}

var imageName = lazyregexp.New(`^[a-z0-9]+([._/-]+[a-z0-9]+)*$`)

// PlatformVersion returns the version of the program that the platform runs.
func (c *ClientConfig) PlatformVersion(ctx context.Context) (string, error) {
	var answer Version
	err := c.get(ctx, PathVersion, &answer)
	return answer.Version, err
}

// get reads a public answer of the platform into v.
func (c *ClientConfig) get(ctx context.Context, path string, v any) error {
	resp, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := strict.Read(resp.Body, limits.Request)
	if err == nil {
		err = strict.Unmarshal(data, limits.Request, v)
	}
	if err != nil {
		return fmt.Errorf("platform %s, %s: %w", c.URL, path, err)
	}
	return nil
}

// File fetches a file of at most max bytes that a release stored under PathLogs, such as
// its lock, and checks it against digest (sha256:hex).
func (c *ClientConfig) File(ctx context.Context, digest string, max int) ([]byte, error) {
	if !sha256Digest.MatchString(digest) {
		return nil, fmt.Errorf("digest: got %q, want sha256:HEX", digest)
	}
	data, err := c.read(ctx, http.MethodGet, PathLogs+"/"+digest, nil, http.StatusOK, max)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); "sha256:"+hex.EncodeToString(sum[:]) != digest {
		return nil, fmt.Errorf("platform %s: got file with digest sha256:%x, want %s", c.URL, sum, digest)
	}
	return data, nil
}

// call sends a request with the token; body is JSON, or nil. It returns the platform's answer, which has
// the status want.
func (c *ClientConfig) call(ctx context.Context, method, path string, body []byte, want int) (*http.Response, error) {
	r, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	return c.answer(r, want)
}

// read is call, and returns the answer, of at most max bytes.
func (c *ClientConfig) read(ctx context.Context, method, path string, body []byte, want, max int) ([]byte, error) {
	resp, err := c.call(ctx, method, path, body, want)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := strict.Read(resp.Body, max)
	if err != nil {
		return nil, fmt.Errorf("platform %s, %s: %w", c.URL, path, err)
	}
	return answer, nil
}

// open asks for something public, without the token.
func (c *ClientConfig) open(ctx context.Context, path string) (*http.Response, error) {
	r, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return c.answer(r, http.StatusOK)
}

// request returns a request to the platform, without the token.
func (c *ClientConfig) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(body))
	if err == nil && body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}

// answer sends a request and returns the platform's answer, which has the status want.
func (c *ClientConfig) answer(r *http.Request, want int) (*http.Response, error) {
	resp, err := do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		defer resp.Body.Close()
		return nil, refusal(c.URL, resp)
	}
	return resp, nil
}

// do sends a request and returns the platform's answer, whatever its status. One that only reads is repeated
// while a role of the platform starts again.
func do(r *http.Request) (resp *http.Response, err error) {
	if r.Method == http.MethodGet {
		resp, err = reach.Get(client, "the platform", r)
	} else {
		resp, err = client.Do(r)
	}
	if err != nil {
		return nil, unreached(err)
	}
	return resp, nil
}

// unreached returns the error for a platform that did not answer a request.
func unreached(err error) error {
	return &Error{Message: "platform " + reach.Explain(err).Error(), Hint: "is colophond running?"}
}

// client follows no redirects: only the configured platform may get the token.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

var sha256Digest = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

// matches returns an error if r is not the release that req asked for.
func (r *Release) matches(req ReleaseRequest) error {
	switch {
	case r.Image != req.Image:
		return fmt.Errorf("released image: got %q, want %q", r.Image, req.Image)
	case !sha256Digest.MatchString(r.Digest):
		return fmt.Errorf("digest of the release: got %q, want sha256:HEX", r.Digest)
	case len(r.Tags) == 0:
		return fmt.Errorf("release %s has no tag", r.Digest)
	case r.Lock != "" && !sha256Digest.MatchString(r.Lock):
		return fmt.Errorf("lock of the release: got %q, want sha256:HEX", r.Lock)
	case req.Commit != "" && r.Source.ID != req.Commit:
		return fmt.Errorf("released commit: got %q, want %q", r.Source.ID, req.Commit)
	}
	return nil
}

func refusal(platform string, resp *http.Response) error {
	text, _ := strict.Read(resp.Body, limits.Request)
	e := &Error{Message: fmt.Sprintf("platform %s: %s: %s", platform, resp.Status, strings.TrimSpace(string(text)))}
	if resp.StatusCode == http.StatusUnauthorized {
		e.Hint = "log in again: colophon login FILE"
	}
	return e
}
