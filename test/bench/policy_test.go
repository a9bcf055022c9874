package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// rules100 returns a policy file of 100 rules.
func rules100(glob, source, condition func(i int) string) []byte {
	var out strings.Builder
	out.WriteString("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: bench}\nspec:\n  unmatched: deny\n  rules:\n")
	for i := range 100 {
		fmt.Fprintf(&out, "    - name: r%d\n      images: [{glob: %q}]\n      accept: [{built: {source: %s}}]\n", i, glob(i), source(i))
		if c := condition(i); c != "" {
			fmt.Fprintf(&out, "      conditions: [{expression: '%s', message: sorry}]\n", c)
		}
	}
	return []byte(out.String())
}

// BenchmarkPolicy measures policies of 100 rules, on one core and in processor time, so that
// other processes do not count: to read one, to read an image for it, and to decide about that
// image. To read an image includes to judge it by each rule that is about it; a decision finds
// that, and can be asked for again.
func BenchmarkPolicy(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	everyone := func(int) string { return "reg.example.com/**" }
	own := func(i int) string { return fmt.Sprintf("reg.example.com/team/app%d@*", i) }
	good := func(int) string { return prooftest.Source }
	sources := func(i int) string { return fmt.Sprintf("https://git.example.com/team/app%d", i) }
	none := func(int) string { return "" }
	level := func(int) string { return "level >= 2" }

	packages := func(i int) string {
		return fmt.Sprintf(`!sbom.packages.exists(p, p.name == "lib%d" && p.version.startsWith("5.6."))`, i)
	}

	for _, tt := range []struct {
		name      string
		condition func(int) string
	}{{"without conditions", none}, {"with the same condition", level}, {"with 100 conditions", packages}} {
		raw := rules100(own, sources, tt.condition)
		micros("reading and checking 100 rules "+tt.name, cpu(20, func() { sets(b, raw) }), "aim 20,000 us")
	}

	p, store := prooftest.New(b), prooftest.NewStore(b)
	r := p.Release(store)
	r.Attach(prooftest.Kinds...)
	image := policy.Image{Name: "reg.example.com/team/app7", Digest: r.Image.Digest.String()}
	opts, now := verify.Options{Trust: []*trust.Root{p.Root()}}, time.Now()
	for _, tt := range []struct {
		name                    string
		glob, source, condition func(int) string
	}{
		{"1 of 100 rules", own, good, none}, {"100 rules, one demand", everyone, good, none}, {"100 rules, one demand and condition", everyone, good, level}, {"100 rules, 100 sources", everyone, sources, none},
	} {
		all := sets(b, rules100(tt.glob, tt.source, tt.condition))
		gather := func() *verify.Evidence {
			return verify.Gather(b.Context(), store, image.Digest, now, opts, verify.AskFor(all, image))
		}
		ev := gather()
		micros("an image in memory, read for "+tt.name, cpu(20, func() { gather() }), "")
		micros("  decided about", cpu(500, func() { ev.Decide(all, image) }), "aim 100 us")
	}
}

func sets(b *testing.B, raw []byte) []*policy.Set {
	all, err := policy.ParseSets(raw)
	if err != nil {
		b.Fatal(err)
	}
	return all
}
