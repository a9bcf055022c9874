package sign

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// configOf returns a signing config with one service of each kind, and the members that
// replace them.
func configOf(t *testing.T, members map[string]any) []byte {
	t.Helper()
	all := map[string]any{
		"mediaType": root.SigningConfigMediaType02,
		"caUrls":    []any{offered("https://ca.example.com", 1, "a")}, "rekorTlogUrls": []any{offered("https://log.example.com/", 2, "a")}, "tsaUrls": []any{offered("https://tsa.example.com/ts", 1, "a")},
		"rekorTlogConfig": map[string]any{"selector": "ANY"}, "tsaConfig": map[string]any{"selector": "ANY"},
	}
	maps.Copy(all, members)
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// offered is a service that is valid in 2026.
func offered(url string, version int, operator string, more ...string) map[string]any {
	from, until := "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
	if len(more) == 2 {
		from, until = more[0], more[1]
	}
	return map[string]any{"url": url, "majorApiVersion": version, "operator": operator, "validFor": map[string]any{"start": from, "end": until}}
}

// The services of a signing config are those of a version that this package speaks, valid
// now, one of each operator, and as many as the selector says.
func TestServicesAreSelected(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	two := []any{offered("https://b.example.com", 2, "b"), offered("https://c.example.com", 2, "c")}
	many := func(n int) (all []any) {
		for i := range n {
			all = append(all, offered(fmt.Sprintf("https://%d.example.com", i), 2, fmt.Sprint(i)))
		}
		return all
	}
	selector := func(name string, count int) map[string]any { return map[string]any{"selector": name, "count": count} }
	type m = map[string]any
	for name, tt := range map[string]struct {
		members m
		logs    int    // number of them; one of the hosts is that of want
		want    string // endpoint of one log, or in the error
	}{
		"one":                      {nil, 1, "https://log.example.com/api/v2/log/entries"},
		"any":                      {m{"rekorTlogUrls": two}, 1, "example.com"},
		"all":                      {m{"rekorTlogUrls": two, "rekorTlogConfig": selector("ALL", 0)}, 2, "https://c.example.com/api/v2/log/entries"},
		"exactly two":              {m{"rekorTlogUrls": many(5), "rekorTlogConfig": selector("EXACT", 2)}, 2, "example.com"},
		"exactly three of two":     {m{"rekorTlogUrls": two, "rekorTlogConfig": selector("EXACT", 3)}, 0, "transparency log: "},
		"exactly none":             {m{"rekorTlogUrls": two, "rekorTlogConfig": selector("EXACT", 0)}, 0, "greater than 0"},
		"no selector":              {m{"rekorTlogConfig": m{}}, 0, "invalid service selector"},
		"newest of an operator":    {m{"rekorTlogUrls": []any{offered("https://old.example.com", 2, "a"), offered("https://new.example.com", 2, "a", "2026-02-01T00:00:00Z", "2027-01-01T00:00:00Z")}, "rekorTlogConfig": selector("ALL", 0)}, 1, "https://new."},
		"not yet":                  {m{"rekorTlogUrls": []any{offered("https://soon.example.com", 2, "a", "2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z")}}, 0, `found "https://soon.example.com" (version 2, not valid now)`},
		"not any more":             {m{"rekorTlogUrls": []any{offered("https://old.example.com", 2, "a", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")}}, 0, "not valid now"},
		"the next, then the valid": {m{"rekorTlogUrls": []any{offered("https://soon.example.com", 2, "a", "2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"), offered("https://now.example.com", 2, "a")}}, 1, "https://now."},
		"Rekor v1":                 {m{"rekorTlogUrls": []any{offered("https://one.example.com", 1, "a")}}, 0, `expected one of version 2 that is valid now in the signing config, found "https://one.example.com" (version 1)`},
		"of a later version":       {m{"rekorTlogUrls": []any{offered("https://three.example.com", 3, "a"), offered("https://two.example.com", 2, "a")}}, 1, "https://two."},
		"no log":                   {m{"rekorTlogUrls": []any{}}, 0, "transparency log: the signing config names none"},
		"no timestamp authority":   {m{"tsaUrls": []any{}}, 0, "timestamp authority: the signing config names none"},
		"no certificate authority": {m{"caUrls": []any{}}, 0, "certificate authority: the signing config names none"},
		"too many take part":       {m{"rekorTlogUrls": many(maxServices + 1), "rekorTlogConfig": selector("ALL", 0)}, 0, "at most 8 can"},
		"as many as can":           {m{"rekorTlogUrls": many(maxServices), "rekorTlogConfig": selector("ALL", 0)}, maxServices, "example.com"},
		"plain HTTP":               {m{"rekorTlogUrls": []any{offered("http://log.example.com", 2, "a")}}, 0, "expected https (http is allowed only on loopback)"},
		"token over plain HTTP":    {m{"caUrls": []any{offered("http://ca.example.com", 1, "a")}}, 0, "certificate authority: the signing config has the URL \"http://ca.example.com\", expected https"},
		"plain HTTP on loopback":   {m{"rekorTlogUrls": []any{offered("http://127.0.0.1:8080", 2, "a")}}, 1, "http://127.0.0.1:8080/api/v2/log/entries"},
		"a user":                   {m{"caUrls": []any{offered("https://a:b@ca.example.com", 1, "a")}}, 0, "expected https://HOST"},
		"a query":                  {m{"caUrls": []any{offered("https://ca.example.com?x=", 1, "a")}}, 0, "expected https://HOST"},
		"a file":                   {m{"caUrls": []any{offered("file:///ca", 1, "a")}}, 0, "expected https://HOST"},
	} {
		config, err := ParseConfig(configOf(t, tt.members))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := new(Session)
		err = s.selectServices(config, nil, now)
		if err == nil {
			_, err = selectAuthority(config, nil, now)
		}
		if tt.logs == 0 {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q", name, err, tt.want)
			}
			continue
		}
		var urls []string
		for _, l := range s.logs {
			urls = append(urls, l.url)
		}
		if err != nil || len(urls) != tt.logs || !strings.Contains(strings.Join(urls, " "), tt.want) {
			t.Errorf("%s: got %q, %v, want %d of them, and %q", name, urls, err, tt.logs, tt.want)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		raw  []byte
		want string
	}{
		"no JSON":         {[]byte("x"), "not JSON"},
		"a member twice":  {[]byte(`{"mediaType":"a","mediaType":"b"}`), "duplicate"},
		"another member":  {configOf(t, map[string]any{"other": 1}), "other"},
		"another version": {configOf(t, map[string]any{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.3+json"}), "media type"},
		"version 0.1":     {[]byte(`{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.1+json","caUrl":"https://ca.example.com"}`), "caUrl"},
		"nothing of logs": {configOf(t, map[string]any{"rekorTlogConfig": nil}), "rekorTlogConfig or tsaConfig is missing"},
		"nothing of TSAs": {configOf(t, map[string]any{"tsaConfig": nil}), "rekorTlogConfig or tsaConfig is missing"},
		"4 MiB":           {append(configOf(t, nil), make([]byte, 4<<20)...), "4194304"},
	} {
		if _, err := ParseConfig(tt.raw); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestPublicConfigs: of the signing configs that the public Sigstore instance publishes, one
// names a Rekor v2 log. The files are targets of github.com/sigstore/root-signing (Apache-2.0)
// of 2026-08-21, unmodified.
func TestPublicConfigs(t *testing.T) {
	now := time.Date(2026, 8, 21, 0, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{"signing_config_rekor_v2.v0.2.json": "", "signing_config.v0.2.json": `found "https://rekor.sigstore.dev" (version 1)`} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		config, err := ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		s := new(Session)
		err = s.selectServices(config, nil, now)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
			continue
		}
		ca, caErr := selectAuthority(config, nil, now)
		if err != nil || caErr != nil || len(s.logs) != 1 || len(s.timestamps) != 1 {
			t.Fatalf("%s: got %d logs, %d timestamp authorities, %v, %v", name, len(s.logs), len(s.timestamps), err, caErr)
		}
		got := []string{ca.url, s.logs[0].url, s.timestamps[0].url}
		for i, url := range []string{"https://fulcio.sigstore.dev/api/v2/signingCert", "https://log2025-1.rekor.sigstore.dev/api/v2/log/entries", "https://timestamp.sigstore.dev/api/v1/timestamp"} {
			if got[i] != url {
				t.Errorf("%s: got %s, want %s", name, got[i], url)
			}
		}
	}
}
