package buildkit

import (
	"reflect"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/colophon-build/colophon/platform/builder"
)

// A step begins once and ends once, after its last output.
func TestStepsEnd(t *testing.T) {
	var got []builder.Event
	p := &progress{log: func(e builder.Event) { got = append(got, e) }}
	now := time.Now()
	step, other := digest.FromString("a"), digest.FromString("b")
	p.update(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: step, Name: "one", Started: &now}, {Digest: other, Name: "never begun", Completed: &now}}})
	p.update(&client.SolveStatus{
		Vertexes: []*client.Vertex{{Digest: step, Name: "one", Started: &now, Completed: &now}},
		Logs:     []*client.VertexLog{{Vertex: step, Data: []byte("first\nlast")}},
	})
	p.update(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: step, Name: "one", Started: &now, Completed: &now}}})
	p.flush()
	want := []builder.Event{{Step: "one"}, {Step: "one", Line: "first"}, {Step: "one", Line: "last"}, {Step: "one", Done: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
