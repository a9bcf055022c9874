package network

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/release/base"
)

// sum is a digest that is easy to tell from others.
func sum(c string) string { return strings.Repeat(c, 64) }

func hash(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: sum(c)} }

const (
	zip    = "https://proxy.example.com/x/@v/v1.0.0.zip"
	hub    = "https://registry-1.docker.io/v2/library/golang"
	golang = "pkg:docker/golang@1.26?platform=linux%2Famd64"
)

var image = &base.Image{Domain: "docker.io", Name: "library/golang", Tag: "1.26", Platform: "linux/amd64", Top: hash("1"),
	Dependency: base.Reference{URI: golang, SHA256: sum("1")},
	Content:    map[v1.Hash]bool{hash("1"): true, hash("2"): true, hash("3"): true, hash("4"): true}}

func get(url, s string) builder.Exchange {
	e := builder.Exchange{Method: "GET", URL: url, Status: 200, Size: 10}
	if s != "" {
		e.SHA256 = sum(s)
	}
	return e
}

func with(e builder.Exchange, change func(*builder.Exchange)) builder.Exchange {
	change(&e)
	return e
}

func header(e builder.Exchange, status int, kv ...string) builder.Exchange {
	if e.Status, e.Header = status, map[string]string{}; builder.Bodiless(status) {
		e.Size = 0
	}
	for i := 0; i < len(kv); i += 2 {
		e.Header[kv[i]] = kv[i+1]
	}
	return e
}

// pulling is what a room asks for to get one image, from a registry that wants
// a token and keeps blobs elsewhere.
func pulling() []builder.Exchange {
	manifest := header(get(hub+"/manifests/1.26", ""), 401, "Www-Authenticate", `Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`)
	manifest.Method = "HEAD"
	found := header(get(hub+"/manifests/1.26", ""), 200, "Docker-Content-Digest", "sha256:"+sum("1"))
	found.Method = "HEAD"
	return []builder.Exchange{
		manifest,
		get("https://auth.docker.io/token?scope=repository%3Alibrary%2Fgolang%3Apull&service=registry.docker.io", "9"),
		found,
		get(hub+"/manifests/sha256:"+sum("1"), "1"),
		get(hub+"/manifests/sha256:"+sum("2"), "2"),
		header(get(hub+"/blobs/sha256:"+sum("3"), ""), 307, "Location", "https://cdn.example.com/data?sig=abc"),
		get("https://cdn.example.com/data?sig=abc", "3"),
		header(get(hub+"/blobs/sha256:"+sum("4"), ""), 307, "Location", "/elsewhere"),
		get("https://registry-1.docker.io/elsewhere", ""), // cut off
		with(get("https://registry-1.docker.io/elsewhere", "8"), func(e *builder.Exchange) { e.Range, e.Status = "bytes=5-", 206 }),
		get("https://registry-1.docker.io/elsewhere", "4"),
		with(get("https://registry-1.docker.io/v2/", "9"), func(e *builder.Exchange) { e.Size = 2 }),
	}
}

func fetched(url, s string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{URI: url, Digest: map[string]string{"sha256": sum(s)}}
}

func TestAgree(t *testing.T) {
	all := func(more ...builder.Exchange) []builder.Exchange { return append(pulling(), more...) }
	claims := func(more ...attest.ResourceDescriptor) Claims {
		return Claims{Dependencies: append([]attest.ResourceDescriptor{fetched(golang, "1")}, more...)}
	}
	gap := func(c Claims, method, url, reason string) Claims {
		c.Incomplete = fmt.Sprintf(`[{"url":%q,"method":%q,"reason":%q},{"reason":"and 5 more"}]`, url, method, reason)
		return c
	}
	post := with(get("https://npm.example.com/audit", "6"), func(e *builder.Exchange) { e.Method, e.Request = "POST", sum("7") })
	moved := []builder.Exchange{
		header(get(zip, ""), 302, "Location", "https://B.example.com:443/y"), header(get("https://b.example.com/y", ""), 307, "Location", "//c.example.com/z?sig=redacted"), get("https://c.example.com/z?sig=redacted", "5"),
	}
	for name, test := range map[string]struct {
		seen   []builder.Exchange
		claims Claims
		want   []string // of the error; none: they agree
	}{
		"an image":                     {all(), claims(), nil},
		"and a file":                   {all(get(zip, "5")), claims(fetched(zip, "5")), nil},
		"twice":                        {all(get(zip, "5"), get(zip, "5")), claims(fetched(zip, "5")), nil},
		"another form of the address":  {all(get("https://proxy.example.com:443/x#y", "5")), claims(fetched("https://xxxxx:xxxxx@PROXY.example.com/x", "5")), nil},
		"a signed address":             {all(get("https://h.example/x?v=1&sig=redacted", "5")), claims(fetched("https://h.example/x?v=1&sig=hunter2", "5")), nil},
		"another signed address":       {all(get("https://h.example/x?v=1&sig=redacted", "5")), claims(fetched("https://h.example/x?v=2&sig=hunter2", "5")), []string{"v=2", "no such request"}},
		"changed in between":           {all(get(zip, "5"), get(zip, "6")), claims(fetched(zip, "5"), fetched(zip, "6")), nil},
		"redirect":                     {all(header(get(zip, ""), 302, "Location", "https://b.example.com/z"), get("https://b.example.com/z", "5")), claims(fetched("https://b.example.com/z", "5")), nil},
		"and its address before":       {all(moved...), claims(fetched(zip, "5"), fetched("https://b.example.com/y", "5"), fetched("https://c.example.com/z?sig=hunter2", "5")), nil},
		"a redirect that was not seen": {all(moved[1:]...), claims(fetched(zip, "5"), fetched("https://c.example.com/z?sig=hunter2", "5")), []string{"GET " + zip, "no such request"}},
		"a redirect elsewhere":         {all(append(moved, get("https://d.example.com/", "6"))...), claims(fetched(zip, "6"), fetched("https://c.example.com/z?sig=hunter2", "5")), []string{"GET " + zip, sum("6")}},
		"redirects in a circle":        {all(header(get(zip, ""), 302, "Location", zip)), claims(fetched(zip, "5")), []string{"GET " + zip, sum("5")}},
		"a redirect that was denied":   {all(append(moved[1:], with(moved[0], func(e *builder.Exchange) { e.Denied = "no" }))...), claims(fetched(zip, "5"), fetched("https://c.example.com/z?sig=hunter2", "5")), []string{"GET " + zip}},
		"not found":                    {all(header(get(zip, "5"), 404)), gap(claims(), "GET", zip, "unsuccessful_response"), nil},
		"refused":                      {all(with(get(zip, ""), func(e *builder.Exchange) { e.Status, e.Denied = 403, "private" })), gap(claims(), "GET", zip, "unsuccessful_response"), nil},
		"head":                         {all(with(get(zip, ""), func(e *builder.Exchange) { e.Method = "HEAD" })), gap(claims(), "HEAD", zip, "method_not_materializable"), nil},
		"post":                         {all(post), gap(claims(), "POST", post.URL, "method_not_materializable"), nil},
		"compressed":                   {all(get(zip, "5")), gap(claims(), "GET", zip, "response_transformed"), nil},
		"never got out":                {all(), gap(claims(), "GET", "https://down.example.com/", "upstream_error"), nil},
		"cut off and asked for again":  {all(get(zip, ""), get(zip, "5")), claims(fetched(zip, "5")), nil},
		"a file that was hidden":       {all(get(zip, "5")), claims(), []string{"GET " + zip, "no download", sum("5")}},
		"a gap past the cap":           {all(get(zip, "5")), Claims{Dependencies: claims().Dependencies, Incomplete: `[{"reason":"and 5 more"}]`}, []string{"GET " + zip, "no download"}},
		"a hidden post":                {all(post), claims(), []string{"POST " + post.URL, "no download"}},
		"a file that was never seen":   {all(), claims(fetched(zip, "5")), []string{"GET " + zip, sum("5"), "no such request"}},
		"other bytes":                  {all(get(zip, "5")), claims(fetched(zip, "6")), []string{"GET " + zip, sum("5"), sum("6")}},
		"one answer of two":            {all(get(zip, "5"), get(zip, "6")), claims(fetched(zip, "6")), []string{"GET " + zip, sum("5"), sum("6")}},
		"half a file":                  {all(get(zip, "")), claims(), []string{"GET " + zip, "no complete answer"}},
		"a part of a file":             {all(with(get(zip, "5"), func(e *builder.Exchange) { e.Range, e.Status = "bytes=0-1", 206 })), claims(), []string{"GET " + zip}},
		"a gap that was never seen":    {all(), gap(claims(), "GET", zip, "response_transformed"), []string{"GET " + zip, "response_transformed", "no such request"}},
		"a gap for another method":     {all(post), gap(claims(), "PUT", post.URL, "method_not_materializable"), []string{post.URL}},
		"a file from under the image":  {all(get(hub+"/blobs/sha256:"+sum("7"), "7")), claims(), []string{sum("7")}},
		"other bytes of the image":     {all(get(hub+"/blobs/sha256:"+sum("3"), "7")), claims(), []string{sum("7")}},
		"another tag":                  {all(get(hub+"/manifests/1.25", "7")), claims(), []string{"manifests/1.25"}},
		"another registry's token":     {all(header(get("https://evil.example.com/v2/", ""), 401, "Www-Authenticate", `Bearer realm="https://evil.example.com/t"`), get("https://evil.example.com/t", "7")), claims(), []string{"https://evil.example.com/t"}},
		"a question to no registry":    {all(get("https://evil.example.com/v2/", "7")), claims(), []string{"https://evil.example.com/v2/"}},
		"a step's own challenge":       {all(header(get("https://registry-1.docker.io/x", ""), 401, "Www-Authenticate", `Bearer realm="https://evil.example.com/t"`), get("https://evil.example.com/t", "7")), claims(), []string{"https://evil.example.com/t"}},
		"an image that was not named":  {all(), Claims{}, []string{golang, "no such image", sum("1")}},
		"another image":                {all(), claims(fetched("pkg:docker/evil@1", "5")), []string{"pkg:docker/evil@1", sum("5"), "no such image"}},
		"another digest of the image":  {all(), Claims{Dependencies: []attest.ResourceDescriptor{fetched(golang, "5")}}, []string{golang, sum("5"), sum("1")}},
		"gaps that are no list":        {all(), Claims{Dependencies: claims().Dependencies, Incomplete: `{"url":1}`}, []string{"list of requests"}},
		"gaps with a duplicate member": {all(), Claims{Dependencies: claims().Dependencies, Incomplete: `[{"url":"a","url":"b"}]`}, []string{"list of requests"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Read(test.seen)
			if err != nil {
				t.Fatal(err)
			}
			err = r.Agree(test.claims, []*base.Image{image})
			if (err == nil) != (test.want == nil) {
				t.Fatalf("got %v, want an error: %v", err, test.want)
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want it to say %q", err, w)
				}
			}
		})
	}
}

// The list comes from the record alone, without the image and its registry.
func TestFetched(t *testing.T) {
	post := with(get("https://npm.example.com/audit", "6"), func(e *builder.Exchange) { e.Method, e.Request = "POST", sum("7") })
	r, err := Read(append(pulling(),
		get(zip, "5"), get(zip, "5"), post,
		header(get("https://a.example.com/gz", "8"), 200, "Content-Encoding", "gzip"),
		with(get("https://a.example.com/part", "8"), func(e *builder.Exchange) { e.Range, e.Status = "bytes=0-1", 206 }),
		header(get("https://a.example.com/gone", "8"), 404),
		get("https://a.example.com/half", ""),
		with(get("https://a.example.com/no", "8"), func(e *builder.Exchange) { e.Denied = "private" }),
		with(get("https://a.example.com/head", "8"), func(e *builder.Exchange) { e.Method = "HEAD" }),
	))
	if err != nil {
		t.Fatal(err)
	}
	note := func(d attest.ResourceDescriptor, kv ...string) attest.ResourceDescriptor {
		d.Annotations = map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			d.Annotations[kv[i]] = kv[i+1]
		}
		return d
	}
	want := []attest.ResourceDescriptor{
		note(fetched("https://a.example.com/gone", "8"), "status", "404"),
		note(fetched("https://a.example.com/gz", "8"), "contentEncoding", "gzip"),
		note(fetched("https://a.example.com/part", "8"), "range", "bytes=0-1"),
		note(fetched(post.URL, "6"), "method", "POST", "requestSHA256", sum("7")),
		fetched(zip, "5"),
	}
	if got := r.Fetched([]*base.Image{image}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := r.Denied(); len(got) != 1 || got[0] != "GET https://a.example.com/no: private" {
		t.Errorf("denied: %q", got)
	}
	if got := r.Cut(); len(got) != 2 || !strings.HasPrefix(got[1], "GET https://a.example.com/half: 10 bytes") {
		t.Errorf("cut: %q", got)
	}
	if _, err := Read([]builder.Exchange{{URL: "https://a b\x7f/"}}); err == nil {
		t.Error("an address that is none was read")
	}
}

func TestManifest(t *testing.T) {
	mirror := func(s string) builder.Exchange {
		return get("http://mirror.invalid/v2/library/golang/manifests/1.26?ns=docker.io", s)
	}
	said := func(digest string) builder.Exchange {
		return with(header(get(hub+"/manifests/1.26", ""), 200, "Docker-Content-Digest", digest), func(e *builder.Exchange) { e.Method = "HEAD" })
	}
	for name, test := range map[string]struct {
		seen []builder.Exchange
		want string // digest, or what the error says
	}{
		"the registry's word":     {[]builder.Exchange{said("sha256:" + sum("1"))}, "sha256:" + sum("1")},
		"bytes":                   {[]builder.Exchange{header(get(hub+"/manifests/1.26", "2"), 200, "Docker-Content-Digest", "sha256:"+sum("1"))}, "sha256:" + sum("2")},
		"a mirror":                {[]builder.Exchange{mirror("1")}, "sha256:" + sum("1")},
		"after a miss":            {[]builder.Exchange{header(mirror(""), 404), said("sha256:" + sum("1"))}, "sha256:" + sum("1")},
		"another host's word":     {[]builder.Exchange{get("https://evil.example.com/v2/library/golang/manifests/1.26?ns=docker.io", "2"), mirror("1")}, "sha256:" + sum("1")},
		"in two ways":             {[]builder.Exchange{mirror("1"), said("sha256:" + sum("2"))}, "digests differ"},
		"nothing":                 {nil, "saw no answer"},
		"another name":            {[]builder.Exchange{get("https://registry-1.docker.io/v2/library/evil/manifests/1.26", "1")}, "saw no answer"},
		"another registry":        {[]builder.Exchange{get("https://evil.example.com/v2/library/golang/manifests/1.26", "1")}, "saw no answer"},
		"denied":                  {[]builder.Exchange{with(mirror("1"), func(e *builder.Exchange) { e.Denied = "x" })}, "saw no answer"},
		"a digest that is none":   {[]builder.Exchange{said("sha256:x")}, "digest"},
		"an answer without bytes": {[]builder.Exchange{mirror("")}, "saw no answer"},
	} {
		r, err := Read(test.seen)
		if err != nil {
			t.Fatal(err)
		}
		h, err := r.Manifest("docker.io", "library/golang", "1.26")
		got := h.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if _, ok := errors.AsType[*base.MismatchError](err); name == "in two ways" && (!ok || !strings.Contains(err.Error(), sum("2"))) {
			t.Errorf("got %v, want both digests", err)
		}
	}
}

// A registry of a base image chooses what it answers for its realm and for the version of its API. What
// arrived from there is listed, and compared, as all other downloads.
func TestHiddenBehindARegistry(t *testing.T) {
	const host = "https://evil.example.com"
	images := []*base.Image{{Domain: "evil.example.com", Name: "base", Tag: "1", Dependency: base.Reference{URI: "pkg:docker/base@1", SHA256: sum("1")}}}
	claims := Claims{Dependencies: []attest.ResourceDescriptor{fetched("pkg:docker/base@1", "1")}}
	challenge := func(s string) builder.Exchange { return header(get(host+"/v2/", ""), 401, "Www-Authenticate", s) }
	one := challenge(`Bearer realm="` + host + `/p"`)
	put := get(host+"/p", "7")
	put.Method = "PUT"
	for name, seen := range map[string][]builder.Exchange{
		"another method":            {one, put},
		"another status":            {one, header(get(host+"/p?a=b", "7"), 203)},
		"two realms":                {challenge(`Bearer realm="` + host + `/t",x-realm="` + host + `/p"`), get(host+"/p", "7")},
		"a version with parameters": {get(host+"/v2/?payload=1", "7")},
		"a long version":            {get(host+"/v2/", "7")},
		"another host":              {challenge(`Bearer realm="https://o.example.com/p"`), header(get("https://o.example.com/p", "7"), 203)},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Read(seen)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Agree(claims, images); err == nil || len(r.Fetched(images)) == 0 {
				t.Errorf("the room got bytes that no list has: %v, %v", err, r.Fetched(images))
			}
		})
	}
	short := get(host+"/v2/", "")
	short.Size = 2
	token := get(host+"/p?scope=repository:base:pull", "7") // the gateway's placeholder
	r, err := Read([]builder.Exchange{short, one, token})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Agree(claims, images); err != nil || len(r.Fetched(images)) > 0 {
		t.Errorf("a pull with a token: got %v, %v", err, r.Fetched(images))
	}
}

// TestHiddenInAnError: the text of an error is a download too, also from where images come from.
func TestHiddenInAnError(t *testing.T) {
	const mirror = "https://" + gateway.MirrorHost + "/v2/library/golang/manifests/1.27?ns=docker.io"
	texts := []builder.Exchange{
		header(get(hub+"/blobs/sha256:"+sum("4"), "5"), 404),
		header(get("https://auth.docker.io/token?scope=x", "5"), 403),
		header(get("https://registry-1.docker.io/v2/", "5"), 500),
		header(with(get(zip, "5"), func(e *builder.Exchange) { e.Method = "POST" }), 404),
	}
	r, err := Read(append(pulling(), append(texts, header(get(zip, ""), 404), header(get(mirror, "5"), 404))...))
	if err != nil {
		t.Fatal(err)
	}
	got := r.Fetched([]*base.Image{image})
	for _, e := range texts {
		if !slices.ContainsFunc(got, func(d attest.ResourceDescriptor) bool {
			return d.URI == e.URL && d.Digest["sha256"] == sum("5") && d.Annotations["status"] == strconv.Itoa(e.Status)
		}) {
			t.Errorf("%s, status %d: not in %v", e.URL, e.Status, got)
		}
	}
	if len(got) != len(texts) {
		t.Errorf("got %v, want these %d", got, len(texts))
	}
	if cut := r.Cut(); !slices.Contains(cut, "GET "+zip+": 10 bytes") {
		t.Errorf("cut: got %q, want the error of which the room got a part", cut)
	}
}
