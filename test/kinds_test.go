package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestChartKnowsTheKinds: the chart has the custom kinds that package imagelist knows, and lets people
// choose each set of them. docs/admission.md lists them all.
func TestChartKnowsTheKinds(t *testing.T) {
	raw, err := os.ReadFile("../oci/imagelist/kinds.json")
	if err != nil {
		t.Fatal(err)
	}
	chart := filepath.Join("..", "deploy", "kubernetes", "chart")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(filepath.Join(chart, "kinds.json"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(filepath.Join(chart, "kinds.json")); err != nil || string(have) != string(raw) {
		t.Errorf("deploy/kubernetes/chart/kinds.json is not oci/imagelist/kinds.json: run UPDATE=1 go test ./test -run TestChartKnowsTheKinds (%v)", err)
	}
	var kinds []struct{ Set, Kind string }
	if err := json.Unmarshal(raw, &kinds); err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Webhook struct {
				Properties struct {
					Kinds struct {
						Items struct{ Enum []string }
					}
				}
			}
		}
	}
	values, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err == nil {
		err = json.Unmarshal(values, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/admission.md")
	if err != nil {
		t.Fatal(err)
	}
	var sets []string
	for _, k := range kinds {
		if k.Set == "" {
			continue
		}
		sets = append(sets, k.Set)
		row, _, _ := strings.Cut(string(page[max(0, strings.Index(string(page), "| `"+k.Set+"` |")):]), "\n")
		if !strings.Contains(row, "`"+k.Kind+"`") {
			t.Errorf("docs/admission.md does not say that the set %s has the kind %s", k.Set, k.Kind)
		}
	}
	slices.Sort(sets)
	if sets = slices.Compact(sets); !slices.Equal(sets, schema.Properties.Webhook.Properties.Kinds.Items.Enum) {
		t.Errorf("values.schema.json has the sets %q, want %q", schema.Properties.Webhook.Properties.Kinds.Items.Enum, sets)
	}
}
