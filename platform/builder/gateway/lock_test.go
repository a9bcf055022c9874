package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/builder"
)

// answersOf makes a gateway with a lock of these answers, all for requests like that of
// the exchange.
func answersOf(t *testing.T, s Settings, list ...builder.Exchange) *Gateway {
	t.Helper()
	lock, err := builder.LockOf(list)
	if err != nil {
		t.Fatal(err)
	}
	s.Store, s.Session.Lock = filepath.Join(t.TempDir(), "store"), lock
	return start(t, s).g
}

// TestLockedAnswers: status, length and headers are the lock's, whatever a lock claims.
func TestLockedAnswers(t *testing.T) {
	const address = "http://a.test/v2/x"
	ask := func(g *Gateway, method string) (*http.Response, error) {
		r, err := http.NewRequest(method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return g.replay(&exchange{Exchange: builder.Exchange{Method: method, URL: address}, url: mustURL(t, address)}, r)
	}
	for length, want := range map[string]int64{"": -1, "0": 0, "7": 7, "-5": -1, "x": -1} {
		header := map[string]string{"Etag": "e"}
		if length != "" {
			header["Content-Length"] = length
		}
		g := answersOf(t, Settings{}, builder.Exchange{Method: "HEAD", URL: address, Status: 200, Header: header, SHA256: emptySum})
		if resp, err := ask(g, "HEAD"); err != nil || resp.ContentLength != want || resp.Header.Get("Etag") != "e" || resp.StatusCode != 200 {
			t.Errorf("length %q: got %+v, %v, want %d", length, resp, err, want)
		}
	}
	for status, leads := range map[int]bool{201: true, 302: true, 399: true, 400: false, 404: false} {
		g := answersOf(t, Settings{}, builder.Exchange{Method: "GET", URL: address, Status: status, Header: map[string]string{"Location": "/y"}, SHA256: emptySum})
		if _, err := ask(g, "GET"); err != nil {
			t.Fatal(err)
		}
		if got := g.lock.redirected["http://a.test/y"] != nil; got != leads {
			t.Errorf("status %d: got a redirect: %v, want %v", status, got, leads)
		}
	}
	challenge := `Bearer realm="http://a.test/token"`
	for status, names := range map[int]bool{401: true, 200: false, 403: false} {
		g := answersOf(t, Settings{}, builder.Exchange{Method: "GET", URL: address, Status: status, Header: map[string]string{"Www-Authenticate": challenge}, SHA256: emptySum})
		if got := g.tokens.realm(mustURL(t, "http://a.test/token")); got != names {
			t.Errorf("status %d: the lock names a realm: %v, want %v", status, got, names)
		}
	}
	if _, err := newLocked(&builder.Lock{}, newTokens()); err == nil || !strings.Contains(err.Error(), "lock: ") {
		t.Errorf("a lock of no version: got %v", err)
	}
}

// TestLockedBytesThatCannotBeHad: they are not there, or too many, or the store fails.
// Nothing is left of them.
func TestLockedBytesThatCannotBeHad(t *testing.T) {
	var answer http.HandlerFunc
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { answer(w, r) })
	text := strings.Repeat("x", 1000)
	for name, test := range map[string]struct {
		status int // in the lock
		answer http.HandlerFunc
		spoil  func(g *Gateway) error
		want   string // status and words
	}{
		"one byte more": {200, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text+"y") }, nil, "403 got more than 1000 bytes"},
		"other bytes":   {200, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text[1:]+"y") }, nil, "403 got 1000 bytes"},
		"breaks off": {200, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil, "502 "},
		"not served":        {200, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, nil, "502 "},
		"another text":      {400, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400); io.WriteString(w, "y") }, nil, "400 "},
		"no store":          {200, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }, func(g *Gateway) error { return os.RemoveAll(g.store.dir) }, "502 store"},
		"no room":           {200, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }, func(g *Gateway) error { g.store.max = 999; return nil }, "502 larger than the whole store"},
		"file in its place": {200, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }, func(g *Gateway) error { return os.WriteFile(filepath.Dir(g.store.path(hexSum(text))), nil, 0o600) }, "502 "},
	} {
		answer = test.answer
		lock, err := builder.LockOf([]builder.Exchange{{Method: "GET", URL: up.URL + "/", Status: test.status, Size: int64(len(text)), SHA256: hexSum(text)}})
		if err != nil {
			t.Fatal(err)
		}
		s.Store, s.Session = filepath.Join(t.TempDir(), "store"), builder.Session{Lock: lock}
		room := start(t, s)
		if test.spoil != nil {
			if err := test.spoil(room.g); err != nil {
				t.Fatal(err)
			}
		}
		status, body := room.fetch("GET", up.URL+"/")
		code, words, _ := strings.Cut(test.want, " ")
		if fmt.Sprint(status) != code || !strings.Contains(body, words) || strings.Contains(body, "xxx") {
			t.Errorf("%s: got %d %.200q, want %s", name, status, body, test.want)
		}
		if left, _ := filepath.Glob(filepath.Join(s.Store, "tmp-*")); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

// TestExpiredRedirects: where a redirect of the lock leads today is asked again, with the
// name of the host that it leads to; what is no redirect any more is refused.
func TestExpiredRedirects(t *testing.T) {
	blob := func(w http.ResponseWriter, r *http.Request) {
		if r.Host != r.URL.Query().Get("host") {
			t.Errorf("host: got %q, want %q", r.Host, r.URL.Query().Get("host"))
		}
		io.WriteString(w, "blob")
	}
	cdn, s2 := world(t, blob)
	plain := httptest.NewServer(http.HandlerFunc(blob))
	defer plain.Close()
	other := strings.Replace(plain.URL, "http://127.0.0.1", "other.test", 1)
	host := strings.TrimPrefix(cdn.URL, "https://")
	var moved http.HandlerFunc
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { moved(w, r) })
	to := func(status int, location string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(status)
		}
	}
	a, _ := os.ReadFile(s.Roots)
	b, _ := os.ReadFile(s2.Roots)
	if err := os.WriteFile(s.Roots, append(a, b...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Ports = append(append(s.Ports, s2.Ports...), port(t, plain.URL))
	old := cdn.URL + "/?old=1"
	lock, err := builder.LockOf([]builder.Exchange{
		{Method: "GET", URL: up.URL + "/", Status: 302, Header: map[string]string{"Location": old}, SHA256: emptySum},
		{Method: "GET", URL: old, Status: 200, Size: 4, SHA256: hexSum("blob")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		moved  http.HandlerFunc
		status int
		want   string
	}{
		"led elsewhere":  {to(307, cdn.URL+"/?host="+host), 200, "blob"},
		"another host":   {to(302, "http://"+other+"/?host="+other), 200, "blob"},
		"first redirect": {to(300, cdn.URL+"/?host="+host), 200, "blob"},
		"last redirect":  {to(399, cdn.URL+"/?host="+host), 200, "blob"},
		"no redirect":    {to(299, cdn.URL+"/?host="+host), 403, "want a redirect"},
		"error":          {to(400, cdn.URL+"/?host="+host), 403, "want a redirect"},
		"no location":    {to(302, ""), 403, "want a redirect"},
		"no URL":         {to(302, "http://[x"), 502, "is no URL"},
		"no answer":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, ""},
	} {
		moved = test.moved
		s.Store, s.Session = filepath.Join(t.TempDir(), "store"), builder.Session{Lock: lock}
		room := start(t, s)
		room.want(302, "", "GET", up.URL+"/")
		if status, body := room.fetch("GET", old); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %q, want %d %q", name, status, body, test.status, test.want)
		}
	}
}

// TestLinesOfARecord: each line is an exchange or the end, whole and in its place.
func TestLinesOfARecord(t *testing.T) {
	const ca, one, end = `{"ca":"x"}` + "\n", `{"n":1,"exchange":{"method":"GET","url":"http://a/","status":200,"size":0}}` + "\n", `{"end":true,"count":1}` + "\n"
	long := strings.Replace(one, `"size":0`, `"size":0,"header":{"Etag":"`+strings.Repeat("e", 100<<10)+`"}`, 1)
	for name, test := range map[string]struct{ record, want string }{
		"good":              {ca + one + end, ""},
		"long":              {ca + long + end, ""},
		"unknown member":    {ca + strings.Replace(one, `"n"`, `"more":1,"n"`, 1) + end, "there is no member \"more\""},
		"no JSON":           {"x\n", "line 1: "},
		"number 0":          {ca + strings.Replace(one, `"n":1`, `"n":0`, 1) + end, "want an exchange"},
		"largest number":    {ca + strings.Replace(one, `"n":1`, fmt.Sprintf(`"n":%d`, limits.LockFetches), 1) + end, "exchange 1 of 1 is missing"},
		"number too large":  {ca + strings.Replace(one, `"n":1`, fmt.Sprintf(`"n":%d`, limits.LockFetches+1), 1) + end, "want an exchange"},
		"exchange and end":  {ca + strings.Replace(one, `"n":1`, `"n":1,"end":true`, 1) + end, "want an exchange"},
		"end with exchange": {ca + one + strings.Replace(one, `"n":1`, `"n":2,"end":true,"count":1`, 1), "want an exchange"},
		"number twice":      {ca + one + one + end, "want an exchange"},
		"neither":           {ca + "{}\n", "want an exchange"},
		"count alone":       {ca + one + `{"count":1}` + "\n", "want an exchange"},
		"another count":     {ca + one + `{"end":true,"count":2}` + "\n", "want an exchange"},
		"no end":            {ca + one, "cut off after 1"},
		"more after it":     {ca + one + end + end, "goes on after its end"},
	} {
		list, err := ReadRecord(strings.NewReader(test.record), func([]byte) {})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || err == nil && len(list) != 1 {
			t.Errorf("%s: got %v, %v, want %q", name, list, err, test.want)
		}
	}
	failed := errors.New("it failed")
	if _, err := ReadRecord(io.MultiReader(strings.NewReader(ca), &failing{failed}), func([]byte) {}); !errors.Is(err, failed) {
		t.Errorf("a reader that fails: got %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error)  { return 0, f.err }
func (f *failing) Write([]byte) (int, error) { return 0, f.err }

// TestTokens: a placeholder stands for one realm's token, for those origins that the
// realm is for, and is renewed before it expires.
func TestTokens(t *testing.T) {
	realm := mustURL(t, "https://auth.test/token?service=x")
	first := mustURL(t, "https://reg.test/v2/a/manifests/1")
	request := func(to, authorization string) *http.Request {
		r, err := http.NewRequest("GET", to, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		return r
	}
	fetched := 0
	fetch := func(status int, body string, err error) func(context.Context, *url.URL) (*http.Response, error) {
		return func(_ context.Context, u *url.URL) (*http.Response, error) {
			if fetched++; u.String() != realm.String() {
				t.Errorf("%s was asked for a token", u)
			}
			return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, err
		}
	}
	mine := "Bearer " + placeholder(realm)
	for name, test := range map[string]struct {
		value         string
		expires       time.Duration
		to            string
		authorization string
		status        int
		body          string
		err           error
		want          string // header; or words of the error
		fetches       int
	}{
		"held":               {"t", time.Minute, first.String(), mine, 0, "", nil, "Bearer t", 0},
		"lower case":         {"t", time.Minute, first.String(), strings.Replace(mine, "Bearer", "bearer", 1), 0, "", nil, "Bearer t", 0},
		"same origin":        {"t", time.Minute, "https://REG.test:443/other", mine, 0, "", nil, "Bearer t", 0},
		"another origin":     {"t", time.Minute, "https://evil.test/", mine, 0, "", nil, mine, 0},
		"plain HTTP":         {"t", time.Minute, "http://reg.test/", mine, 0, "", nil, mine, 0},
		"another scheme":     {"t", time.Minute, first.String(), strings.Replace(mine, "Bearer", "Basic", 1), 0, "", nil, strings.Replace(mine, "Bearer", "Basic", 1), 0},
		"another token":      {"t", time.Minute, first.String(), "Bearer x", 0, "", nil, "Bearer x", 0},
		"nearly expired":     {"t", 9 * time.Second, first.String(), mine, 200, `{"token":"new"}`, nil, "Bearer new", 1},
		"not yet expired":    {"t", 15 * time.Second, first.String(), mine, 200, `{"token":"new"}`, nil, "Bearer t", 0},
		"not requested":      {"", time.Hour, first.String(), mine, 200, `{"access_token":"new"}`, nil, "Bearer new", 1},
		"no answer":          {"", 0, first.String(), mine, 0, "", io.ErrUnexpectedEOF, "token from https://auth.test/token: unexpected EOF", 1},
		"denied":             {"", 0, first.String(), mine, 403, `{"token":"new"}`, nil, "token from https://auth.test/token: got status 403 without a usable token", 1},
		"no token":           {"", 0, first.String(), mine, 200, `{}`, nil, "token from https://auth.test/token: got status 200 without a usable token", 1},
		"answer of no bound": {"", 0, first.String(), mine, 200, strings.Repeat(" ", maxToken+1), nil, "token from https://auth.test/token: ", 1},
	} {
		tokens := newTokens()
		tokens.challenged(first, `Basic realm="no", Bearer realm="https://auth.test/token",service="x"`)
		tokens.held[placeholder(realm)] = &token{realm, test.value, time.Now().Add(test.expires)}
		fetched = 0
		r := request(test.to, test.authorization)
		_, err := tokens.authorize(t.Context(), r, fetch(test.status, test.body, test.err), func(*url.URL) bool { return true })
		got := r.Header.Get("Authorization")
		if err != nil {
			got = err.Error()
		}
		failed := strings.HasPrefix(test.want, "token from")
		if (err != nil) != failed || !failed && got != test.want || !strings.HasPrefix(got, test.want) || fetched != test.fetches {
			t.Errorf("%s: got %q after %d requests, want %q after %d", name, got, fetched, test.want, test.fetches)
		}
	}

	for raw, want := range map[string]string{
		`{"token":"a","access_token":"b"}`: "a 1m0s true", `{"access_token":"b"}`: "b 1m0s true", `{"token":"a","expires_in":59}`: "a 1m0s true", `{"token":"a","expires_in":61}`: "a 1m1s true",
		`{"token":"a","expires_in":3600}`: "a 1h0m0s true", `{"token":"a","expires_in":1e9}`: "a 1h0m0s true", `{"token":"a","expires_in":-1}`: "a 1m0s true", `{}`: " 1m0s false", `[`: " 0s false", `{"token":"a","token":"b"}`: " 0s false",
	} {
		value, life, ok := parseToken([]byte(raw))
		if got := fmt.Sprint(value, " ", life, " ", ok); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}

	// Only a registry's challenge names a realm.
	tokens := newTokens()
	for _, c := range [][2]string{{"https://reg.test/other", `Bearer realm="https://auth.test/token"`}, {"https://reg.test/v2/", `Basic realm="https://auth.test/token"`}, {"https://reg.test/v2/", `Bearer realm="http://[x"`}} {
		if tokens.challenged(mustURL(t, c[0]), c[1]); len(tokens.realms) > 0 {
			t.Errorf("%s, %s: names the realm %v", c[0], c[1], tokens.realms)
		}
	}
	// No more than 4096 realms and tokens; those that are known stay.
	for i := range maxTokens + 1 {
		tokens.challenged(first, fmt.Sprintf(`Bearer realm="https://auth%d.test/"`, i))
	}
	tokens.challenged(mustURL(t, "https://second.test/v2/"), `Bearer realm="https://auth0.test/"`)
	if !tokens.realm(mustURL(t, fmt.Sprintf("https://auth%d.test/", maxTokens-1))) || tokens.realm(mustURL(t, fmt.Sprintf("https://auth%d.test/", maxTokens))) || len(tokens.realms["https://auth0.test/"]) != 2 {
		t.Errorf("got %d realms", len(tokens.realms))
	}
	for i := range maxTokens {
		if err := tokens.keep(mustURL(t, fmt.Sprintf("https://auth.test/?secret=%d", i)), "t", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	err := tokens.keep(mustURL(t, "https://auth.test/?secret=more"), "t", time.Minute)
	if _, denied := errors.AsType[*DeniedError](err); !denied || !strings.Contains(err.Error(), "limit of 4096 tokens") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a token more: got %v", err)
	}
	zero := mustURL(t, "https://auth.test/?secret=0")
	for value, want := range map[string]string{"": "t", "new": "new"} {
		if err := tokens.keep(zero, value, time.Minute); err != nil || tokens.held[placeholder(zero)].value != want && value == "new" {
			t.Errorf("a token that is known: got %v, want %q", err, want)
		}
		if tokens.held[placeholder(zero)].value == "" {
			t.Error("a token was forgotten")
		}
	}
	for s, want := range map[string]string{"https://A.test:443/x": "https://a.test", "http://a.test:80/": "http://a.test", "http://a.test:443/": "http://a.test:443", "https://-x-/": "https://-x-"} {
		if got := origin(mustURL(t, s)); got != want {
			t.Errorf("%s: got %s, want %s", s, got, want)
		}
	}
}

// TestRealmsThatFail: a room receives no token from a realm that gives none, and a realm
// sees nothing of the gateway.
func TestRealmsThatFail(t *testing.T) {
	body := ""
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if r.UserAgent() != "" {
				t.Errorf("user agent: got %q, want none", r.UserAgent())
			}
			io.WriteString(w, body)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	room := start(t, s)
	room.want(401, "", "GET", up.URL+"/v2/")
	for answer, want := range map[string]string{"{}": "the answer has no token", strings.Repeat(" ", maxToken+1): "token from " + up.URL + "/token"} {
		body = answer
		room.want(502, want, "GET", up.URL+"/token", "User-Agent", "")
	}
	for i := range maxTokens {
		room.g.tokens.held[fmt.Sprint(i)] = &token{}
	}
	body = `{"token":"t"}`
	room.want(403, "limit of 4096 tokens", "GET", up.URL+"/token", "User-Agent", "")
	// A placeholder whose token cannot be had is not sent on.
	u := mustURL(t, up.URL+"/token")
	room.g.tokens.held[placeholder(u)] = &token{url: u}
	body = "{}"
	room.want(502, "without a usable token", "GET", up.URL+"/v2/", "Authorization", "Bearer "+placeholder(u))
}

// opened returns a new store of at most max bytes.
func opened(t *testing.T, max int64) *store {
	t.Helper()
	s, err := openStore(t.TempDir(), max)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nothingTemporary fails the test if a file is left that no body has been stored in.
func nothingTemporary(t *testing.T, s *store, after string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "tmp-*")); len(left) > 0 {
		t.Errorf("%s: %v is left", after, left)
	}
}

func TestStoreIsNotOpened(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"a file": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
		"an old temporary directory": func(dir string) error {
			old := filepath.Join(dir, "tmp-x")
			return errors.Join(os.MkdirAll(filepath.Join(old, "full"), 0o700), os.Chtimes(old, longAgo, longAgo))
		},
		"a directory for the size": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "size")), os.Mkdir(filepath.Join(dir, "size"), 0o700))
		},
		"a bad name": func(dir string) error { return os.Rename(dir, dir+"[") },
	} {
		dir := filepath.Join(t.TempDir(), "s")
		if _, err := openStore(dir, 100); err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if name == "a bad name" {
			dir += "["
		}
		if _, err := openStore(dir, 100); err == nil {
			t.Errorf("%s: the store was opened", name)
		}
	}
}

// The limits themselves are allowed.
func TestBodyAsLargeAsTheStore(t *testing.T) {
	s := opened(t, 10)
	b, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(make([]byte, 10)); err != nil {
		t.Errorf("a body as large as the store: %v", err)
	}
	if _, err := b.Write(make([]byte, 1)); err == nil {
		t.Error("a larger one was taken")
	}
	if err := b.commit(true); err != nil {
		t.Errorf("a body as large as the store: %v", err)
	}
	if size, err := os.ReadFile(filepath.Join(s.dir, "size")); err != nil || string(size) != "10" {
		t.Errorf("size: got %q, %v, want 10", size, err)
	}
	nothingTemporary(t, s, "the first time")
	// Once more, it is in use, and leaves nothing behind.
	name := s.path(hexSum(string(make([]byte, 10))))
	if err := os.Chtimes(name, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	put(t, s, string(make([]byte, 10)))
	if info, err := os.Stat(name); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("a body that was recorded again: got %v, %v, want it used now", info, err)
	}
	nothingTemporary(t, s, "once more")
}

// The least recently used bodies go first, until nine tenths are left.
func TestLeastRecentlyUsedGoFirst(t *testing.T) {
	s := opened(t, 100)
	for i := range 10 {
		name := put(t, s, fmt.Sprintf("body %05d", i))
		if err := os.Chtimes(name, longAgo.Add(time.Duration(i)*time.Hour), longAgo.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if total, err := s.trim(); total != 100 || err != nil {
		t.Errorf("as much as there may be: got %d, %v left, want all", total, err)
	}
	put(t, s, "x")
	if all, _ := filepath.Glob(s.dir + "/*/*"); len(all) != 9 {
		t.Errorf("one byte more: got %d bodies left, want the latest 9", len(all))
	}
	for i := range 10 {
		if _, err := os.Stat(s.path(hexSum(fmt.Sprintf("body %05d", i)))); (err == nil) != (i > 1) {
			t.Errorf("body %d: got %v, want the first two removed", i, err)
		}
	}
	if size, err := os.ReadFile(filepath.Join(s.dir, "size")); err != nil || string(size) != "81" {
		t.Errorf("size: got %q, %v, want 81", size, err)
	}
}

// TestStoreFails: an operation that the disk refuses is an error.
func TestStoreFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&store{dir: file}).create(); err == nil {
		t.Error("a body was begun in a file")
	}
	if err := touch(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("a body that another gateway removed: %v", err)
	}
	if err := touch(filepath.Join(file, "x")); err == nil {
		t.Error("a body that cannot be touched: got no error")
	}
	for name, spoil := range map[string]func(b *blob) error{
		"closed":                func(b *blob) error { return b.f.Close() },
		"gone":                  func(b *blob) error { return os.Remove(b.f.Name()) },
		"file in its place":     func(b *blob) error { return os.WriteFile(filepath.Dir(b.s.path(b.digest())), nil, 0o600) },
		"directory of its name": func(b *blob) error { return os.MkdirAll(filepath.Join(b.s.path(b.digest()), "x"), 0o700) },
	} {
		s := opened(t, 100)
		b, err := s.create()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(b, "text")
		if err := spoil(b); err != nil {
			t.Fatal(err)
		}
		if err := b.commit(true); err == nil {
			t.Errorf("%s: the body was stored", name)
		}
		nothingTemporary(t, s, name)
	}
}

// TestVerifiedFiles: a body is what its digest and size say, or an error, also if it
// changes while it is read.
func TestVerifiedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "body")
	for _, n := range []int{0, 1, small, small + 1} {
		text := strings.Repeat("x", n)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		body, err := openVerified(path, hexSum(text), int64(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		// From here on, a small body is in memory.
		if err := os.Truncate(path, int64(n/2)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if n <= small && (string(got) != text || err != nil) || n > small && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		for _, wrong := range []int64{int64(n) + 1, int64(n) - 1} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := openVerified(path, hexSum(text), wrong, nil); wrong >= 0 {
				if _, bad := errors.AsType[*mismatchError](err); !bad {
					t.Errorf("%d bytes taken for %d: got %v", n, wrong, err)
				}
			}
		}
	}
	text := strings.Repeat("x", 2*small)
	if err := os.WriteFile(path, []byte(text+"more"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(text))); err != nil {
		t.Fatal(err)
	}
	body, err := openVerified(path, hexSum(text), int64(len(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"more"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if string(got) != text || err != nil {
		t.Errorf("a body that grew: got %d bytes, %v, want those that were verified", len(got), err)
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: got %d, %v", n, err)
	}
	if _, err := openVerified(t.TempDir(), hexSum(""), 0, nil); err == nil {
		t.Error("a directory was opened as a small body")
	}
	if _, err := openVerified(t.TempDir(), hexSum(""), small+1, nil); err == nil {
		t.Error("a directory was opened as a large body")
	}
}
