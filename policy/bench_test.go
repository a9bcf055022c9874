package policy

import (
	"fmt"
	"strings"
	"testing"
)

// hundredRules returns a policy file with 100 rules, each with one condition.
func hundredRules(condition func(i int) string) []byte {
	var b strings.Builder
	b.WriteString("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec:\n  unmatched: deny\n  rules:\n")
	for i := range 100 {
		fmt.Fprintf(&b, "    - name: app%d\n      images: [{glob: reg.example.com/team/app%d@*}]\n      accept:\n        - built: {source: https://git.example.com/team/app%d, ref: {version: v1}, minLevel: 2}\n", i, i, i)
		if c := condition(i); c != "" {
			fmt.Fprintf(&b, "      conditions: [{expression: '%s', message: sorry}]\n", c)
		}
	}
	return []byte(b.String())
}

// BenchmarkParse reads a policy of 100 rules and checks its types.
func BenchmarkParse(b *testing.B) {
	for name, condition := range map[string]func(i int) string{
		"no conditions": func(int) string { return "" },
		"one condition": func(int) string {
			return `!sbom.packages.exists(p, p.name == "xz-libs" && p.version.startsWith("5.6."))`
		},
		"100 conditions": func(i int) string {
			return fmt.Sprintf(`!sbom.packages.exists(p, p.name == "lib%d" && p.version.startsWith("5.6."))`, i)
		},
		"100 about a build": func(i int) string {
			return fmt.Sprintf(`build.runner == "github-hosted" && source.ref == "refs/tags/v%d"`, i)
		},
	} {
		raw := hundredRules(condition)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseSets(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
