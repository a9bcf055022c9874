package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	maxObjects = 100_000                // of one list
	settle     = 100 * time.Millisecond // changes within it are told at once
	page       = 500

	watchAtLeast = time.Second // between the beginnings of two watches
)

// list is a list of objects as the API server sends it.
type list struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
	Kind       string            `json:"kind"`
	APIVersion string            `json:"apiVersion"`
	Items      []json.RawMessage `json:"items"`
}

// event is one change of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

type identity struct {
	Metadata struct {
		Namespace       string `json:"namespace"`
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

// Watcher learns of the objects at a path. Its functions are called one after the other.
type Watcher struct {
	Set     func(key string, object json.RawMessage) // an object is there, or has changed. key is NAMESPACE/NAME
	Gone    func(key string)                         // it is there no longer
	Settled func()                                   // all that is known was told: after each list, and shortly after changes
	Failed  func(error)                              // the API server did not answer as expected. It is asked again; what was told stays true as far as anybody knows
}

// Watch tells w of all objects at a path, such as /api/v1/pods, and of each change, until ctx ends.
// It keeps the keys of the objects, and nothing else of them.
func (c *Client) Watch(ctx context.Context, path string, w Watcher) {
	known := map[string]bool{}
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		started := time.Now()
		err := c.follow(ctx, path, known, w)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.Failed(err)
		}
		if time.Since(started) > time.Minute {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// Follow calls told with all objects at a path, such as /apis/colophon.build/v1/imagepolicies,
// ordered by namespace and name, once and after each change, until ctx ends. If the API server
// does not answer, Follow calls failed and tries again, as Watch does.
func (c *Client) Follow(ctx context.Context, path string, told func([]json.RawMessage), failed func(error)) {
	objects := map[string]json.RawMessage{}
	c.Watch(ctx, path, Watcher{
		Set:     func(key string, object json.RawMessage) { objects[key] = object },
		Gone:    func(key string) { delete(objects, key) },
		Settled: func() { told(ordered(objects)) },
		Failed:  failed,
	})
}

// follow lists and watches until the watch ends. The API server ends each after some minutes.
func (c *Client) follow(ctx context.Context, path string, known map[string]bool, w Watcher) error {
	listed := map[string]bool{}
	version, err := c.pages(ctx, path, func(raw json.RawMessage) error {
		name, _, err := key(raw)
		if err != nil {
			return err
		}
		if listed[name] = true; len(listed) > maxObjects {
			return fmt.Errorf("%s has more than %d objects", path, maxObjects)
		}
		known[name] = true
		w.Set(name, raw)
		return nil
	})
	if err != nil {
		return err
	}
	for name := range known {
		if !listed[name] {
			delete(known, name)
			w.Gone(name)
		}
	}
	w.Settled()
	for ctx.Err() == nil {
		started := time.Now()
		version, err = c.watch(ctx, path, version, known, w)
		if err != nil {
			return err
		}
		if rest := watchAtLeast - time.Since(started); rest > 0 { // a server that ends each watch at once is not asked all the time
			select {
			case <-ctx.Done():
			case <-time.After(rest):
			}
		}
	}
	return nil
}

func key(raw json.RawMessage) (string, string, error) {
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil || id.Metadata.Name == "" {
		return "", "", errors.New("the API server sent an object without a name")
	}
	return id.Metadata.Namespace + "/" + id.Metadata.Name, id.Metadata.ResourceVersion, nil
}

func ordered(objects map[string]json.RawMessage) (out []json.RawMessage) {
	names := make([]string, 0, len(objects))
	for name := range objects {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out = append(out, objects[name])
	}
	return out
}

// pages calls do with each object at a path, until it fails, and returns the version of the list.
func (c *Client) pages(ctx context.Context, path string, do func(json.RawMessage) error) (version string, err error) {
	for next, most := "", page; ; {
		var l list
		err := c.Get(ctx, fmt.Sprintf("%s?limit=%d&continue=%s", path, most, url.QueryEscape(next)), &l)
		if errors.Is(err, errLarge) && most > 1 {
			most = max(1, most/8) // large objects of one namespace do not hide those of others
			continue
		}
		if err != nil {
			return "", err
		}
		for _, raw := range l.Items {
			raw, err := whole(raw, strings.TrimSuffix(l.Kind, "List"), l.APIVersion)
			if err == nil {
				err = do(raw)
			}
			if err != nil {
				return "", err
			}
		}
		if next = l.Metadata.Continue; next == "" {
			return l.Metadata.ResourceVersion, nil
		}
	}
}

// whole adds kind and apiVersion to an item of a list: the API server leaves them out there of its
// own kinds.
func whole(raw json.RawMessage, kind, apiVersion string) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if m["kind"] != nil {
		return raw, nil
	}
	m["kind"], _ = json.Marshal(kind)
	m["apiVersion"], _ = json.Marshal(apiVersion)
	return json.Marshal(m)
}

// watch tells w of changes until the stream ends, and returns the version of the last one.
func (c *Client) watch(ctx context.Context, path, version string, known map[string]bool, w Watcher) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q := url.Values{"watch": {"1"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {"300"}}
	resp, err := c.send(ctx, c.stream, http.MethodGet, path+"?"+q.Encode(), "", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	events, ended := make(chan event), make(chan error, 1)
	go func() {
		dec := json.NewDecoder(resp.Body)
		for {
			var e event
			if err := dec.Decode(&e); err != nil {
				ended <- err
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	silence := time.NewTimer(6 * time.Minute) // longer than timeoutSeconds: the connection is dead
	defer silence.Stop()
	var due <-chan time.Time
	for {
		select {
		case e := <-events:
			changed, v, err := apply(known, w, e)
			if err != nil {
				return "", err
			}
			if v != "" {
				version = v
			}
			if changed && due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			w.Settled()
		case err := <-ended:
			if due != nil {
				w.Settled()
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return version, nil
			}
			return "", fmt.Errorf("watch of %s: %w", path, err)
		case <-silence.C:
			return "", fmt.Errorf("watch of %s: no answer", path)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func apply(known map[string]bool, w Watcher, e event) (changed bool, version string, err error) {
	switch e.Type {
	case "ERROR":
		return false, "", fmt.Errorf("the watch ended: %s", e.Object)
	case "BOOKMARK":
		var id identity
		err := json.Unmarshal(e.Object, &id)
		return false, id.Metadata.ResourceVersion, err
	case "ADDED", "MODIFIED", "DELETED":
		name, version, err := key(e.Object)
		if err != nil {
			return false, "", err
		}
		if e.Type == "DELETED" {
			delete(known, name)
			w.Gone(name)
			return true, version, nil
		}
		if known[name] = true; len(known) > maxObjects {
			return false, "", fmt.Errorf("more than %d objects", maxObjects)
		}
		w.Set(name, e.Object)
		return true, version, nil
	}
	return false, "", fmt.Errorf("the watch sent an event of unknown type %q", e.Type)
}
