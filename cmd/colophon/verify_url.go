package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/verify"
)

// maxDownload is the size limit in bytes of a file that verify downloads.
const maxDownload = 16 << 30

// isURL reports whether the argument is the address of a file.
func isURL(what string) bool {
	return strings.HasPrefix(what, "https://") || strings.HasPrefix(what, "http://")
}

// download verifies the file at a URL, with the bundles beside it or in --bundle. With --save,
// it keeps the file if it is accepted.
func (o verifyOptions) download(ctx context.Context, what string, _ oci.Reference, opts verify.Options) (*verify.Verdict, error) {
	u, err := url.Parse(what)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !loopback.OrTLS(u) {
		return nil, usageError("", "%s: expected https://HOST/PATH, without user and fragment", what)
	}
	if o.source.offline {
		return undecided(what, errors.New("the file is on a server, and --offline uses no network: download it and its bundle first")), nil
	}
	var bundles [][]byte
	if o.bundle != "" {
		if bundles, err = readBundles(o.bundle); err != nil {
			return nil, err
		}
	} else if bundles, err = bundlesBeside(ctx, u); err != nil {
		return undecided(what, err), nil
	}
	// Beside the file that is kept, so that it can be renamed; nobody else reads it before.
	dir := ""
	if o.save != "" {
		dir = filepath.Dir(o.save)
	}
	f, err := os.CreateTemp(dir, ".colophon-download-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := fetch(ctx, u, func(body io.Reader) error {
		n, err := io.Copy(f, io.LimitReader(body, maxDownload+1))
		if err == nil && n > maxDownload {
			err = fmt.Errorf("%s: more than %d bytes", what, int64(maxDownload))
		}
		return err
	}); err != nil {
		return undecided(what, err), nil
	}
	// Read again from the disk: what is verified is what is kept.
	file, err := openFile(f.Name())
	if err != nil {
		return nil, err
	}
	defer file.Content.(io.Closer).Close()
	file.Name, file.Title = what, path.Base(u.Path)
	v := verify.Bundled(ctx, file, bundles, o.now, opts)
	if o.save == "" || v.Outcome != verify.Accepted {
		return v, nil
	}
	// Closed, because Windows renames no open file.
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close(), file.Content.(io.Closer).Close()); err != nil {
		return nil, err
	}
	return v, os.Rename(f.Name(), o.save)
}

// bundlesBeside downloads the bundles that have the file's name with one of the endings that
// verify knows from directories.
func bundlesBeside(ctx context.Context, u *url.URL) (all [][]byte, err error) {
	for _, ending := range attest.BundleEndings() {
		beside := *u
		beside.Path = u.Path + ending
		if u.RawPath != "" { // it has an escaped slash, as team%2Fapp
			beside.RawPath = u.RawPath + ending
		}
		err := fetch(ctx, &beside, func(body io.Reader) error {
			raw, err := strict.Read(body, maxBundlesFile)
			if err != nil {
				return fmt.Errorf("%s: %w", beside.String(), err)
			}
			found, err := splitBundles(beside.String(), raw)
			if err == nil && verify.AreBundles(found) { // a page that says "not found" with status 200 is none
				all = append(all, found...)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no bundle beside it: tried %s with %s; name one with --bundle FILE", path.Base(u.Path), strings.Join(attest.BundleEndings(), ", "))
	}
	return all, nil
}

// errHere means that a server elsewhere leads to a service of this machine.
var errHere = errors.New("it redirects to this machine")

// transportFor returns a transport for the file at u. It refuses to connect a redirect to
// loopback, whatever name leads there: services of this machine trust who can reach them.
// The host that the user named may be anywhere. A proxy connects where it will.
func transportFor(u *url.URL) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	var elsewhere atomic.Bool // of the last request, which went to another host, without a proxy
	through := t.Proxy
	t.Proxy = func(r *http.Request) (proxy *url.URL, err error) {
		if through != nil {
			proxy, err = through(r)
		}
		elsewhere.Store(proxy == nil && r.URL.Host != u.Host)
		return proxy, err
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		if elsewhere.Load() && !loopback.Possible(u.Host) && loopback.Possible(address) {
			return errHere
		}
		return nil
	}}
	t.DialContext = dialer.DialContext
	return t
}

// fetch sends one GET request. It follows redirects, as downloads of releases have them, but
// only to where nobody on the network can change the answer.
func fetch(ctx context.Context, u *url.URL, read func(io.Reader) error) error {
	client := &http.Client{Transport: transportFor(u), CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 9 || !loopback.OrTLS(r.URL) || !loopback.Possible(u.Host) && loopback.Possible(r.URL.Host) {
			return errors.New("it redirects too often, to plain http, or to this machine")
		}
		r.Header.Del("Referer") // the query of the address may be a credential of the first host
		return nil
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "colophon")
	req.Header.Set("Accept-Encoding", "identity") // the bytes as they are signed
	resp, err := client.Do(req)
	if errors.Is(err, errHere) {
		return fmt.Errorf("%s: %w", u, errHere)
	} else if err != nil {
		return reach.Explain(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength > maxDownload {
			return fmt.Errorf("%s: %d bytes, which are more than %d", u, resp.ContentLength, int64(maxDownload))
		}
		return read(resp.Body)
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden: // what object stores say of what is not there
		return fmt.Errorf("%s: %w", u, fs.ErrNotExist)
	}
	return fmt.Errorf("%s: expected status 200, found %d", u, resp.StatusCode)
}
