package attest_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/colophon-build/colophon/attest"
)

// ReadIsolation reads what Parameters wrote, among other internal parameters.
func TestIsolation(t *testing.T) {
	i := attest.Isolation{Zones: attest.SeparateUsers, Namespaces: "user mount pid ipc", Reach: "public 10.0.0.0/8", CacheMounts: attest.KeptCacheMounts}
	members := i.Parameters()
	if want := map[string]string{"zones": "separate users", "namespaces": "user mount pid ipc", "reach": "public 10.0.0.0/8", "cacheMounts": "kept"}; !reflect.DeepEqual(members, want) {
		t.Errorf("got %v, want %v", members, want)
	}
	if got := (attest.Isolation{Zones: attest.OneUser}).Parameters(); len(got) != 1 || got["zones"] != "one user" {
		t.Errorf("got %v, want only the zones", got)
	}
	members["network"] = "gateway"
	raw, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := attest.ReadIsolation(raw); err != nil || got != i {
		t.Errorf("got %+v, %v, want %+v", got, err, i)
	}
	for text, want := range map[string]attest.Isolation{
		``: {}, `{}`: {}, `null`: {}, `{"zones":["separate users"],"namespaces":7,"reach":["public"],"cacheMounts":false}`: {},
	} {
		if got, err := attest.ReadIsolation(json.RawMessage(text)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{`[]`, `"x"`, `{`, `{"zones":"a","zones":"separate users"}`, `{"Zones":"separate users"}`} {
		if got, err := attest.ReadIsolation(json.RawMessage(text)); err == nil {
			t.Errorf("%s: got %+v, want an error", text, got)
		}
	}
	if got := i.Missing("user", "pid", "net"); got != "net" {
		t.Errorf("got %q missing, want net", got)
	}
	if got := i.Missing("ipc", "user"); got != "" {
		t.Errorf("got %q missing, want none", got)
	}
}
