package platform

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/schematest"
)

// TestConfigSchema: the schema of the configuration says what its type says, and both refuse
// unknown members alike.
func TestConfigSchema(t *testing.T) {
	address := schematest.Schema{"type": "string", "pattern": "^([^:]+|\\[.*\\]):[^:]+$|^$"}
	users := schematest.Schema{"uidBase": schematest.Schema{"type": "integer"}}
	for _, r := range roles() {
		if r.listen != "" || r.name == roleDoor {
			users[r.name] = address
		}
	}
	value := schematest.Schema{"oneOf": []any{
		schematest.Schema{"type": "string"},
		schematest.Schema{"type": "object", "properties": schematest.Schema{"pattern": schematest.Schema{"type": "string", "minLength": 1}}, "required": []string{"pattern"}, "additionalProperties": false},
	}}
	schematest.Format{
		File: "configuration.json", Title: "Colophon configuration: colophond serve --config (docs/configuration.md)", Type: reflect.TypeFor[configFile](), Tag: "json",
		Custom: map[reflect.Type]schematest.Schema{
			reflect.TypeFor[policy.DocumentValue](): value,
			reflect.TypeFor[[]byte]():               {"type": "string", "contentEncoding": "base64"},
			reflect.TypeFor[rolesConfig]():          {"type": "object", "properties": users, "additionalProperties": false},
		},
		Extra: map[string]schematest.Schema{
			"build.wallTime": {"type": "string"}, "fulcio": {"type": "object"}, "build.network.ports": {"items": schematest.Schema{"type": "integer", "minimum": 0, "maximum": 65535}},
			"recipes.images": {"minLength": 1}, "registry.gate.policies": {"minLength": 1}, "registry.gate.mode": {"enum": []string{"", "enforce", "audit"}}, "registry.gate.memory": {"minimum": 0, "maximum": 1024},
		},
	}.Golden(t)
	whole := `{
  "$schema": "https://colophon.example.com/schemas/configuration.json",
  "mirror": "/var/lib/images",
  "registry": {"mutable": ["scratch/*"], "privatePull": true, "gate": {"policies": "/etc/colophon/policies", "trust": "/etc/colophon/trust", "mode": "audit", "memory": 64}},
  "audit": {"required": true, "private": ["user"], "writers": [{"role": "gate", "instance": "edge", "key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}], "retention": "8760h"},
  "recipes": [{"images": "registry.example.com/team/*", "recipe": {"target": {"pattern": "a|b"}, "hermetic": true}}],
  "build": {"cpus": 1.5, "memory": 1000000000, "wallTime": "30m", "concurrent": 2, "cacheMounts": {"size": 1000000000, "total": 8000000000, "age": "72h"}, "network": {"ports": [443], "allow": ["10.0.0.0/8"], "denyHosts": ["*.example.com"]}},
  "roles": {"uidBase": 64700, "registry": "10.0.0.2:8443", "door": "10.0.0.1:8444"}
}`
	schematest.Alike(t, schematest.Compile(t, "configuration.json"), "an example", []byte(whole), func(raw []byte) error {
		file := filepath.Join(t.TempDir(), "colophond.json")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(file)
		return err
	})
}
