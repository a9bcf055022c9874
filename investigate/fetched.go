package investigate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

const (
	maxFetches   = 200       // downloads that are asked for again
	maxFetch     = 256 << 20 // bytes of one of them
	maxFetched   = 2 << 30   // bytes of all of them
	maxBases     = 16        // base images that are verified
	maxRedirects = 5
	fetchTime    = 2 * time.Minute // for one download
)

// Refetch says how to ask hosts that the provenance names, which is dangerous: whoever wrote the
// provenance chose them, and sees who asks.
type Refetch struct {
	// Private also allows addresses that are not public (reach.NotPublic): those of this machine and
	// of its networks.
	Private bool
}

// Transport returns what sends the requests: without a proxy, cookies or decompression.
func (r Refetch) Transport() *http.Transport {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if !r.Private {
		d.Control = reach.Public
	}
	return &http.Transport{DialContext: d.DialContext, DisableCompression: true, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 1 << 20, MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second}
}

// FetchedAsker asks for the downloads of the build again.
func FetchedAsker(how Refetch) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		r := Reply{Asked: "the hosts that the provenance names"}
		f := in.Holding()
		if f == nil || f.Build == nil {
			return r, NotAskedFor("no provenance holds")
		}
		transport := how.Transport()
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: fetchTime, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return nil
		}}
		r.Facts.Fetches = refetch(ctx, client, f.Build.Dependencies)
		r.Query = fmt.Sprintf("%d downloads", len(r.Facts.Fetches))
		return r, nil
	}
}

// refetch asks for downloads again, a few at a time, in the order of the provenance.
func refetch(ctx context.Context, client *http.Client, deps []attest.ResourceDescriptor) []Fetch {
	out := []Fetch{}
	var plain []int // those that can be repeated
	for _, d := range deps {
		u, err := url.Parse(d.URI)
		want := d.Digest["sha256"]
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || want == "" {
			continue // an image, a source
		}
		f := Fetch{URI: d.URI, Want: "sha256:" + want, Status: FetchUnknown}
		switch {
		case len(plain) == maxFetches:
			f.Why = fmt.Sprintf("only the first %d downloads are asked for", maxFetches)
		case d.Annotations["status"] != nil:
			f.Why = "it was the text of an error"
		case d.Annotations["method"] != nil || d.Annotations["range"] != nil || d.Annotations["requestSHA256"] != nil:
			f.Why = "the build asked for it in a way that cannot be repeated"
		default:
			plain = append(plain, len(out))
		}
		out = append(out, f)
	}
	encoding := map[string]string{}
	for _, d := range deps {
		if e, ok := d.Annotations["contentEncoding"].(string); ok {
			encoding[d.URI] = e
		}
	}
	var left sync.Mutex
	budget := int64(maxFetched)
	slots := make(chan struct{}, 8)
	var group sync.WaitGroup
	for _, i := range plain {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			left.Lock()
			most := min(budget, maxFetch)
			left.Unlock()
			n := fetchOne(ctx, client, &out[i], encoding[out[i].URI], most)
			left.Lock()
			budget -= n
			left.Unlock()
		})
	}
	group.Wait()
	return out
}

// fetchOne asks for one download, of at most most bytes, and returns how many it read.
func fetchOne(ctx context.Context, client *http.Client, f *Fetch, encoding string, most int64) int64 {
	fail := func(err error) { f.Status, f.Why = FetchUnknown, reach.Explain(err).Error() }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URI, nil)
	if err != nil {
		fail(err)
		return 0
	}
	req.Header.Set("Accept-Encoding", cmp.Or(encoding, "identity"))
	resp, err := client.Do(req)
	if err != nil {
		if private, ok := errors.AsType[*reach.PrivateError](err); ok {
			err = private
		}
		fail(err)
		return 0
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		f.Status, f.Why = FetchGone, resp.Status
		return 0
	case resp.StatusCode != http.StatusOK:
		f.Why = resp.Status
		return 0
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		fail(err)
	case n > most:
		f.Why = fmt.Sprintf("it has more than %d bytes, or all downloads together too many", most)
	default:
		if f.Got = "sha256:" + hex.EncodeToString(h.Sum(nil)); f.Got == f.Want {
			f.Status = FetchSame
		} else {
			f.Status = FetchOther
		}
	}
	return n
}

// BasesAsker verifies the base images that the provenance names, under the trust roots, with a
// provenance of any source. open opens a repository, as Refetch allows.
func BasesAsker(open func(name string) (oci.Source, error)) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		r := Reply{Asked: "the registries that the provenance names"}
		f := in.Holding()
		if f == nil || f.Build == nil {
			return r, NotAskedFor("no provenance holds")
		}
		loose, err := anything.Policy()
		if err != nil {
			return r, err
		}
		r.Facts.Bases = []BaseImage{}
		for _, d := range f.Build.Dependencies {
			name, ok := imageName(d)
			if !ok {
				continue
			}
			b := BaseImage{URI: d.URI, Digest: "sha256:" + d.Digest["sha256"]}
			if len(r.Facts.Bases) >= maxBases {
				b.Why = fmt.Sprintf("only the first %d base images are asked for", maxBases)
			} else {
				b.ask(ctx, open, name, in, loose)
			}
			r.Facts.Bases = append(r.Facts.Bases, b)
		}
		r.Query = fmt.Sprintf("%d base images", len(r.Facts.Bases))
		return r, nil
	}
}

func (b *BaseImage) ask(ctx context.Context, open func(string) (oci.Source, error), name string, in *Inquiry, loose policy.Policy) {
	src, err := open(name)
	if err != nil {
		b.Why = err.Error()
		return
	}
	v := verify.Image(ctx, src, b.Digest, in.At, verify.Options{Trust: in.Trust, Policy: loose})
	b.Asked, b.Outcome, b.Why = true, v.Outcome, v.Why()
}

// imageName returns the repository of an image that resolvedDependencies name by a package URL, as
// BuildKit writes it: pkg:docker/NAME@TAG?platform=….
func imageName(d attest.ResourceDescriptor) (name string, ok bool) {
	rest, ok := strings.CutPrefix(d.URI, "pkg:docker/")
	if !ok || d.Digest["sha256"] == "" {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "@")
	name, err := url.PathUnescape(rest)
	return name, err == nil && name != ""
}
