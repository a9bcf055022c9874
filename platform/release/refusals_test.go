package release

import (
	"strconv"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

// TestRefusals: what a failed build could not download is said, where the failure does not say it.
func TestRefusals(t *testing.T) {
	const address = "https://files.example/a.tar"
	get := func(status int, denied, url string) *attempt {
		return &attempt{record: &builder.Record{Exchanges: []builder.Exchange{{Method: "GET", URL: url, Status: status, Denied: denied}}}}
	}
	const failure = "build failed at ADD --checksum=sha256:00 " + address + " /a: digest mismatch"
	gone := builder.Exchange{Method: "GET", URL: "https://typo.example/", Status: 502, Failed: "no such host"}
	for name, tt := range map[string]struct {
		a    *attempt
		want string
	}{
		"denied":        {get(0, "not in the lock", "https://other.example/"), "\nthe gateway denied GET https://other.example/: not in the lock"},
		"no answer":     {get(0, "", address), "\nthere was no answer to GET " + address},
		"no host":       {&attempt{record: &builder.Record{Exchanges: []builder.Exchange{gone, gone}}}, "\nthere was no answer to GET https://typo.example/: no such host"},
		"an error page": {get(404, "", address), "\nthe answer to GET " + address + " was an error: status 404"},
		"other bytes":   {get(200, "", address), ""},
		"another's 404": {get(404, "", "https://other.example/"), ""},
		"no room":       {&attempt{}, ""},
	} {
		if got := tt.a.refusals(failure); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	many := &attempt{record: &builder.Record{}}
	for n := range 7 {
		many.record.Exchanges = append(many.record.Exchanges, get(0, "no", address+strconv.Itoa(n)).record.Exchanges...)
	}
	if got := many.refusals(failure); strings.Count(got, "denied") != 5 || !strings.HasSuffix(got, "\nand 2 more") {
		t.Errorf("many: got %q", got)
	}
}
