package verify

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// TestExplain: every link says how it is judged, with the values it is held to.
func TestExplain(t *testing.T) {
	demanded := func(d policy.Document) policy.Policy {
		p, err := d.Policy()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	opts := Options{
		Trust: []*trust.Root{{URL: "https://platform.example.com", Fingerprint: "sha256:aa", Builders: []trust.Builder{{ID: "https://platform.example.com/builders/x"}}}},
		Policy: demanded(policy.Document{Source: "https://git.example.com/team/app", Ref: "v1.2.0", Commit: strings.Repeat("c", 40), MinLevel: 2,
			RequireSource: true}),
	}
	for link, want := range map[string]string{
		LinkImage:      "digest",
		LinkFile:       "digest",
		LinkSignature:  "platform https://platform.example.com sha256:aa; signer https://platform.example.com/builders/x",
		LinkLog:        "2026-11-20 00:00:00Z",
		LinkProvenance: "source https://git.example.com/team/app, ref v1.2.0, commit cccccccccccccccccccccccccccccccccccccccc, Build level 2 or more",
		LinkSource:     "the repository was not asked",
		LinkSBOM:       "signer of the provenance",
	} {
		e := opts.Explain(link, now)
		if e.Checked == "" || e.Rule == "" || !strings.Contains(e.Against, want) {
			t.Errorf("%s: got %+v, want %q", link, e, want)
		}
	}
	if e := opts.Explain(LinkSource, now); !strings.Contains(e.Rule, "demanded by the policy") {
		t.Errorf("source: got %q, want that it is demanded", e.Rule)
	}
	opts.Policy = demanded(policy.Document{AnySource: true, NoSBOM: true, Builders: []string{"https://b.example.com/builders/y"}})
	for link, want := range map[string]string{
		LinkSignature:  "signer https://b.example.com/builders/y",
		LinkProvenance: "any source",
		LinkSource:     "still accepted",
		LinkSBOM:       "not demanded",
	} {
		if e := opts.Explain(link, now); !strings.Contains(e.Against+e.Rule, want) {
			t.Errorf("%s: got %+v, want %q", link, e, want)
		}
	}
	if e := (Options{}).Explain(LinkSignature, now); !strings.Contains(e.Against, "no trust root") {
		t.Errorf("no trust: got %+v", e)
	}
	named := Options{Trust: opts.Trust, Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "ada", Issuer: "https://accounts.example.com"}}}}
	if e := named.Explain(LinkSignature, now); !strings.Contains(e.Against, "signed by ada, vouched for by https://accounts.example.com") {
		t.Errorf("a signer: got %+v", e)
	}
	pattern, err := policy.ParsePattern("a.*", "https://accounts.example.com")
	if err != nil {
		t.Fatal(err)
	}
	named.Policy.Origin = policy.SignatureOnly{Signer: pattern}
	if e := named.Explain(LinkSignature, now); !strings.Contains(e.Against, "a.*, vouched for by https://accounts.example.com") {
		t.Errorf("a pattern: got %+v", e)
	}
	named.Policy.Origin = policy.SignatureOnly{Signer: policy.Key{InsecureNoLog: true}}
	if e := named.Explain(LinkSignature, now); !strings.Contains(e.Against, "the key that the policy names") {
		t.Errorf("a key: got %+v", e)
	}
	if e := named.Explain(LinkLog, now); !strings.Contains(e.Rule, "dangerous") {
		t.Errorf("no log: got %+v", e)
	}
	if e := opts.Explain("of tomorrow", now); e != (Explanation{}) {
		t.Errorf("unknown link: got %+v", e)
	}
}
