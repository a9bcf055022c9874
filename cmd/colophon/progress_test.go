package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

// TestPlainProgressIsNeverSilent: while nothing else is to be said, plain progress says what
// goes on, and for how long.
func TestPlainProgressIsNeverSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := (&progressOptions{mode: "plain"}).start(&out, false)
		alive := func(n int) {
			for range n {
				time.Sleep(15 * time.Second)
				p.event("", api.Event{Phase: "alive"})
			}
		}
		alive(4) // nothing is known yet
		p.event("", api.Event{Phase: "build", Step: "buildkit"})
		p.event("", api.Event{Phase: "build", Step: "RUN make"})
		alive(4)
		p.event("", api.Event{Phase: "build", Step: "RUN make", Line: "output"})
		alive(1)
		p.event("", api.Event{Phase: "build", Step: "RUN test"}) // beside it
		alive(2)
		p.event("", api.Event{Phase: "build", Step: "RUN make", Done: true})
		p.event("", api.Event{Phase: "build", Step: "RUN make", Line: "what it fetched"})
		alive(2)
		p.event("", api.Event{Phase: "sbom"})
		alive(2)
		want := `   60.0s build buildkit
         │ RUN make
   90.0s build RUN make goes on
  120.0s build RUN make goes on
         │   output
         │ RUN test
  165.0s build RUN make goes on
         │ RUN make
         │   what it fetched
  195.0s build RUN test goes on
  195.0s sbom 
  225.0s sbom goes on
`
		if out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", &out, want)
		}
	})
}
