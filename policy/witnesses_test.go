package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

func witnessPolicy(log, accept string) string {
	return `{"apiVersion": "colophon.build/v1", "kind": "ImagePolicy", "metadata": {"name": "p"}, "spec": {"unmatched": "deny", "rules": [
	{"name": "r", "images": [{"glob": "registry.example.com/**"}], "accept": [` + accept + `], "log": ` + log + `}]}}`
}

const builtFrom = `{"built": {"source": "https://git.example.com/team/app"}}`

func TestWitnesses(t *testing.T) {
	a, b := logtest.Cosigner(t, "a.example/w").Key.String(), logtest.Cosigner(t, "b.example/w").Key.String()
	renamed, err := tlog.NewEd25519Cosigner("c.example/w", logtest.Key("a.example/w"))
	if err != nil {
		t.Fatal(err)
	}
	keys := `["` + a + `", "` + b + `"]`
	sets, err := policy.ParseSets([]byte(witnessPolicy(`{"witnesses": 2, "keys": `+keys+`}`, builtFrom)))
	if err != nil {
		t.Fatal(err)
	}
	p := sets[0].Rules[0].Accept[0]
	if p.Witnesses.AtLeast != 2 || len(p.Witnesses.Keys) != 2 || p.Witnesses.String() != "2 of the witnesses a.example/w, b.example/w" {
		t.Errorf("got %v", p.Witnesses)
	}
	without := p
	without.Witnesses = policy.Witnesses{}
	if p.Equal(without) || !p.Equal(p) {
		t.Error("a policy with witnesses equals one without")
	}
	if _, err := p.MarshalJSON(); err == nil {
		t.Error("version 1 of the document lost the witnesses")
	}
	d, err := sets[0].Document()
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := policy.ParseSets(text); err != nil || !again[0].Rules[0].Accept[0].Equal(p) {
		t.Errorf("got %v, %v back from\n%s", again, err, text)
	}
	logless := parseKey(t, publicKey)
	logless.InsecureNoLog = true
	tracked := p.Origin.(policy.BuilderProvenance)
	tracked.SourceTrack.MinLevel, tracked.SourceVerifiers = 3, []policy.Verifier{{ID: "https://v.example.com", Signer: logless}}
	for name, p := range map[string]policy.Policy{
		"an attestation without a log": {Origin: p.Origin, Witnesses: p.Witnesses, Attestations: []policy.Attestation{{PredicateType: "https://example.com/x", Signer: logless}}},
		"a summary without a log":      {Origin: p.Origin, Witnesses: p.Witnesses, Verifiers: []policy.Verifier{{ID: "https://v.example.com", Signer: logless}}},
		"of the source, without a log": {Origin: tracked, Witnesses: p.Witnesses},
	} {
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), "without a log") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	var many []string
	for i := range 33 {
		many = append(many, `"`+logtest.Cosigner(t, fmt.Sprint("w", i, ".example")).Key.String()+`"`)
	}
	most := witnessPolicy(`{"witnesses": 1, "keys": [`+strings.Join(many[:32], ", ")+`]}`, builtFrom)
	if _, err := policy.ParseSets([]byte(most)); err != nil {
		t.Errorf("32 keys: %v", err)
	}
	for name, bad := range map[string]string{
		"nothing":               witnessPolicy(`{}`, builtFrom),
		"more than there are":   witnessPolicy(`{"witnesses": 3, "keys": `+keys+`}`, builtFrom),
		"none of two":           witnessPolicy(`{"witnesses": 0, "keys": `+keys+`}`, builtFrom),
		"less than none":        witnessPolicy(`{"witnesses": -1, "keys": `+keys+`}`, builtFrom),
		"no keys":               witnessPolicy(`{"witnesses": 1}`, builtFrom),
		"a key twice":           witnessPolicy(`{"witnesses": 1, "keys": ["`+a+`", "`+a+`"]}`, builtFrom),
		"a key under two names": witnessPolicy(`{"witnesses": 2, "keys": ["`+a+`", "`+renamed.Key.String()+`"]}`, builtFrom),
		"a log's key":           witnessPolicy(`{"witnesses": 1, "keys": ["`+logtest.New("log.example", 0).VKey()+`"]}`, builtFrom),
		"too many keys":         witnessPolicy(`{"witnesses": 1, "keys": [`+strings.Join(many, ", ")+`]}`, builtFrom),
		"of no log":             witnessPolicy(`{"witnesses": 1, "keys": `+keys+`}`, `{"summary": {"verifiers": [{"id": "https://v.example.com", "signer": {"certificate": {"issuer": "https://i.example.com", "identity": {"is": "x"}}}}]}}`),
	} {
		if sets, err := policy.ParseSets([]byte(bad)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, sets[0].Rules[0].Accept[0].Witnesses)
		}
	}
}
