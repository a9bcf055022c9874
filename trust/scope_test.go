package trust_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// TestIssuers: whom each kind of trust root vouches for.
func TestIssuers(t *testing.T) {
	p := prooftest.New(t)
	p.Issuers = []string{"https://idp.example.com", "https://oidc.eks.*.amazonaws.com/id/*"}
	const ada = "https://accounts.example.com"
	plain := p.PlainRoot(ada)
	again, err := plain.ForIssuers([]string{ada})
	if err == nil {
		t.Errorf("two lists for one root: got %q", again.Issuers())
	}
	if _, err := p.Root().ForIssuers([]string{ada}); err == nil {
		t.Error("a platform vouches for whom its user names")
	}
	if reread, err := trust.Parse(plain.Raw); err != nil || reread.Pin() != plain.Pin() || !slices.Equal(reread.Issuers(), []string{ada}) || reread.URL != "" {
		t.Errorf("read again: got %+v, %v", reread, err)
	}
	material, err := trust.ParseMaterial(p.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	if err := trust.Vouches(material, ada); err == nil {
		t.Error("material without issuers vouches for one")
	}
	for many, want := range []string{"vouches for no issuer", "only for https://i0.example.com", "", "only for https://i0.example.com, https://i1.example.com, https://i2.example.com",
		"only for https://i0.example.com, https://i1.example.com, https://i2.example.com, 1 more"} {
		var issuers []string
		for i := range many {
			issuers = append(issuers, fmt.Sprintf("https://i%d.example.com", i))
		}
		if err := trust.Vouches(p.PlainRoot(issuers...).Material, "https://evil.example.com"); err == nil || want != "" && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%d issuers: got %v, want %q at the end", many, err, want)
		}
	}
	for name, tt := range map[string]struct {
		root      *trust.Root
		good, bad []string
	}{
		"platform": {p.Root(), []string{prooftest.URL, "https://idp.example.com", "https://oidc.eks.us-west-2.amazonaws.com/id/B02C_9"},
			[]string{ada, "", prooftest.URL + "/", "https://idp.example.com.evil", "https://oidc.eks.us.west.amazonaws.com/id/B", "https://oidc.eks..amazonaws.com/id/B",
				"https://oidc.eks.us.amazonaws.com/id/", "https://oidc.eks.us.amazonaws.com/id/B/C", "xhttps://oidc.eks.us.amazonaws.com/id/B", "https://oidc.eks.us.amazonawsxcom/id/B\n"}},
		"plain":       {plain, []string{ada}, []string{prooftest.URL, ada + "/"}},
		"plain alone": {p.PlainRoot(), nil, []string{ada, prooftest.URL, ""}},
	} {
		for _, issuer := range tt.good {
			if err := trust.Vouches(tt.root.Material, issuer); err != nil {
				t.Errorf("%s, %q: %v", name, issuer, err)
			}
		}
		for _, issuer := range tt.bad {
			if err := trust.Vouches(tt.root.Material, issuer); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("got %q", issuer)) {
				t.Errorf("%s, %q: got %v, want a refusal that names it", name, issuer, err)
			}
		}
	}
}

// TestPublicIssuers: the public instance is known by its authorities alone. With any
// other authority beside them, nobody says whom the root serves.
func TestPublicIssuers(t *testing.T) {
	raw, err := os.ReadFile("tuf/sigstore_trusted_root.json")
	if err != nil {
		t.Fatal(err)
	}
	public, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, issuer := range []string{trust.GitHubIssuer, trust.GitHubIssuer + "/an-enterprise", trust.GitLabIssuer, "https://accounts.google.com"} {
		if err := trust.Vouches(public.Material, issuer); err != nil {
			t.Error(err)
		}
	}
	for _, issuer := range []string{prooftest.URL, "https://gitlab.example.com", "https://accounts.google.com.evil", trust.GitHubIssuer + "/a/b"} {
		if err := trust.Vouches(public.Material, issuer); err == nil {
			t.Errorf("the public instance vouches for %q", issuer)
		}
	}
	var mixed, stranger map[string]json.RawMessage
	var authorities, more []json.RawMessage
	for _, err := range []error{json.Unmarshal(raw, &mixed), json.Unmarshal(prooftest.New(t).TrustedRoot(), &stranger),
		json.Unmarshal(mixed["certificateAuthorities"], &authorities), json.Unmarshal(stranger["certificateAuthorities"], &more)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if mixed["certificateAuthorities"], err = json.Marshal(append(authorities, more...)); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(mixed); err != nil {
		t.Fatal(err)
	}
	if r, err := trust.Parse(raw); err != nil || len(r.Issuers()) > 0 {
		t.Errorf("with a stranger's authority: got %q, %v, want none", r.Issuers(), err)
	}
	// Whoever pins it may say that it serves less.
	less, err := public.ForIssuers([]string{trust.GitHubIssuer})
	if err != nil || !slices.Equal(less.Issuers(), []string{trust.GitHubIssuer}) {
		t.Errorf("got %v", err)
	}
}

func TestIssuersRefused(t *testing.T) {
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("https://idp%d.example.com", i)
	}
	p := prooftest.New(t)
	for name, tt := range map[string]struct {
		issuers []string
		want    string
	}{
		"http":              {[]string{"http://idp.example.com"}, "want an https URL"},
		"no URL":            {[]string{"idp"}, "want an https URL"},
		"no host":           {[]string{"https:///idp"}, "want an https URL"},
		"a malformed URL":   {[]string{"https://idp.example.com/%zz"}, "want an https URL"},
		"a user":            {[]string{"https://a@idp.example.com"}, "want an https URL"},
		"a query":           {[]string{"https://idp.example.com?x"}, "want an https URL"},
		"a fragment":        {[]string{"https://idp.example.com#x"}, "want an https URL"},
		"every domain":      {[]string{"https://*.com"}, "want a domain without"},
		"every domain, two": {[]string{"https://idp.*.*"}, "want a domain without"},
		"one label":         {[]string{"https://*"}, "want a domain without"},
		"twice":             {[]string{"https://idp.example.com", "https://idp.example.com"}, "twice"},
		"its own again":     {[]string{prooftest.URL}, "twice"},
		"too many":          {many, "want at most 100"},
	} {
		p.Issuers = tt.issuers
		if _, err := trust.Parse(p.Document()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
		if _, err := p.PlainRoot().ForIssuers(tt.issuers); name != "its own again" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s, by hand: got %v, want %q in it", name, err, tt.want)
		}
	}
	p.Issuers = many[:99] // and its own
	if _, err := trust.Parse(p.Document()); err != nil {
		t.Error(err)
	}
	if _, err := trust.Parse([]byte(`{"trustedRoot":` + string(p.TrustedRoot()) + `}`)); err == nil || !strings.Contains(err.Error(), "want at least one") {
		t.Errorf("a document without issuers: got %v", err)
	}
	if _, err := p.PlainRoot().ForIssuers(nil); err == nil || !strings.Contains(err.Error(), "want at least one") {
		t.Errorf("a list of nobody: got %v", err)
	}
	p.Issuers = nil
	if _, err := p.Root().ForIssuers([]string{"https://idp.example.com"}); err == nil || !strings.HasPrefix(err.Error(), "the trust document says") {
		t.Errorf("a list beside that of a document: got %v", err)
	}
}

// TestIssuerBelongsToOrigin: a platform's own issuer is at its origin.
func TestIssuerBelongsToOrigin(t *testing.T) {
	p := prooftest.New(t)
	document := func(url, issuer string) []byte {
		raw, err := json.Marshal(trust.Document{URL: url, Issuer: issuer, Builders: []trust.Builder{{ID: issuer + "/builders/x"}}, TrustedRoot: p.TrustedRoot()})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, issuer := range []string{"https://a.example.com", "https://a.example.com/issuer"} {
		if _, err := trust.Parse(document("https://a.example.com", issuer)); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
	for _, issuer := range []string{"https://b.example.com", "https://a.example.com.evil", "https://a.example.com/", "https://a.example.com:8443", "https://token.actions.githubusercontent.com", "https://a.example.com/*", ""} {
		if _, err := trust.Parse(document("https://a.example.com", issuer)); err == nil {
			t.Errorf("%q: a platform has an issuer elsewhere", issuer)
		}
	}
}

func TestNames(t *testing.T) {
	p := prooftest.New(t)
	r, plain := p.Root(), p.PlainRoot("https://accounts.example.com")
	for _, name := range []string{r.Fingerprint, prooftest.URL} {
		if err := trust.CheckName(name); err != nil || !r.Named(name) || plain.Named(name) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if r.Named("") || plain.Named("") {
		t.Error("no name is a name")
	}
	for _, name := range []string{"", "production", "sha256:ab", strings.ToUpper(r.Fingerprint), "http://a.example.com", "https://", "https://a@b.example.com"} {
		if err := trust.CheckName(name); err == nil {
			t.Errorf("%q can be a name", name)
		}
	}
}

// TestChanges: what a replacement is trusted for besides, and what it is not.
func TestChanges(t *testing.T) {
	p := prooftest.New(t)
	p.Issuers = []string{"https://a.example.com", "https://b.example.com"}
	old := p.Root()
	if got := trust.Changes(old, p.Root()); len(got) != 0 {
		t.Errorf("the same: got %+v", got)
	}
	// Logs that were never there are not lost.
	without := func(service string) *trust.Root {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(prooftest.New(t).TrustedRoot(), &members); err != nil {
			t.Fatal(err)
		}
		delete(members, service)
		raw, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		r, err := trust.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, service := range []string{"tlogs", "ctlogs"} {
		for _, before := range []string{"", service} {
			got := trust.Changes(without(before), without(service))
			if wider := before == ""; len(got) != 1 || got[0].Wider != wider || strings.Contains(got[0].Text, "keys") == wider {
				t.Errorf("%s, of a root without %q: got %+v, want wider %v", service, before, got, wider)
			}
		}
	}
	for name, tt := range map[string]struct {
		next  *trust.Root
		wider bool
		want  string
	}{
		"keys":    {func() *trust.Root { q := prooftest.New(t); q.Issuers = p.Issuers; return q.Root() }(), false, "keys"},
		"level":   {with(p, func(q *prooftest.Platform) { q.Level = 3 }), true, "Build L3, was L2"},
		"lower":   {with(p, func(q *prooftest.Platform) { q.Level = 1 }), false, "Build L1, was L2"},
		"issuer":  {with(p, func(q *prooftest.Platform) { q.Issuers = append(p.Issuers[:2:2], "https://c.example.com") }), true, "vouches for issuer https://c.example.com"},
		"fewer":   {with(p, func(q *prooftest.Platform) { q.Issuers = p.Issuers[:1] }), false, "no longer vouches for issuer https://b.example.com"},
		"another": {with(p, func(q *prooftest.Platform) { q.URL = "https://other.example.com" }), true, "platform \"https://other.example.com\""},
		"plain":   {p.PlainRoot(p.Issuers...), true, "no longer builder"},
	} {
		got := trust.Changes(old, tt.next)
		wider, texts := false, ""
		for _, c := range got {
			wider = wider || c.Wider
			texts += c.Text + "; "
		}
		if wider != tt.wider || !strings.Contains(texts, tt.want) || strings.Contains(texts, "keys") != (name == "keys") {
			t.Errorf("%s: got %+v, want %q, wider %v", name, got, tt.want, tt.wider)
		}
	}
}

// with returns the root of a changed copy of p.
func with(p *prooftest.Platform, change func(*prooftest.Platform)) *trust.Root {
	q := *p
	change(&q)
	return q.Root()
}
