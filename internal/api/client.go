package api

import (
	"bufio"
	"bytes"
	"context"
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
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// maxEvent bounds one line of a release's progress.
const maxEvent = 1 << 20

// ErrNoPlatform says that nobody has logged in on this machine.
var ErrNoPlatform = errors.New("no platform configured")

// ConfigPath is where `colophon login` keeps the platform, unless
// COLOPHON_PLATFORM names a file for one command.
func ConfigPath() (string, error) {
	if p := os.Getenv("COLOPHON_PLATFORM"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "colophon", "platform.json"), nil
}

// LoadConfig reads the platform to talk to, or returns an error matching ErrNoPlatform.
func LoadConfig() (*ClientConfig, error) {
	path, err := ConfigPath()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("COLOPHON_PLATFORM") == "" {
		return nil, ErrNoPlatform
	} else if err != nil {
		return nil, err
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a client.json strictly.
func ParseConfig(data []byte) (*ClientConfig, error) {
	var c ClientConfig
	if err := strict.UnmarshalKnown(data, limits.Request, &c); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("platform URL %q: want http://… or https://…", c.URL)
	}
	if c.Token == "" {
		return nil, errors.New("no token in it")
	}
	return &c, nil
}

// SaveConfig keeps c for LoadConfig, readable by this user alone.
func SaveConfig(path string, c *ClientConfig) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

// Release asks the platform for a release and calls progress for each event.
// A failure that the platform explains is an *Error. Cancelling ctx ends the
// release there too; asking again finishes it.
func (c *ClientConfig) Release(ctx context.Context, req ReleaseRequest, progress func(Event)) (*Release, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+PathReleases, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	hr.Header.Set("Authorization", "Bearer "+c.Token)
	hr.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(hr)
	if err != nil {
		return nil, &Error{Message: fmt.Sprintf("platform %s does not answer: %v", c.URL, errors.Unwrap(err)), Hint: "is colophond running?", Exit: 1}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(c.URL, resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e Event
		if err := strict.Unmarshal(lines.Bytes(), maxEvent, &e); err != nil {
			return nil, fmt.Errorf("platform %s: event: %w", c.URL, err)
		}
		switch {
		case e.Error != nil:
			return nil, e.Error
		case e.Result != nil:
			return e.Result, nil
		}
		progress(e)
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return nil, &Error{Message: fmt.Sprintf("platform %s went away in the middle: %v", c.URL, err), Hint: "run the same command again: it finishes what was begun", Exit: 1}
}

func refusal(platform string, resp *http.Response) error {
	text, _ := strict.Read(resp.Body, limits.Request)
	e := &Error{Message: fmt.Sprintf("platform %s: %s: %s", platform, resp.Status, strings.TrimSpace(string(text))), Exit: 1}
	if resp.StatusCode == http.StatusUnauthorized {
		e.Hint = "log in again: colophon login FILE"
	}
	return e
}
