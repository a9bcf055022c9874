package verify_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Read an image once, and ask what several policies say about it.
func ExampleGather() {
	roots, err := trust.Store{Dir: "testdata/example/trust"}.Load()
	if err != nil {
		log.Fatal(err)
	}
	image, err := oci.ParseReference("testdata/example/app:v1.2.0")
	if err != nil {
		log.Fatal(err)
	}
	src, err := image.Open(oci.RegistryOptions{})
	if err != nil {
		log.Fatal(err)
	}
	var ask verify.Ask
	for _, document := range []string{`{"source": "git.example.com/team/app"}`, `{"source": "git.example.com/team/lib"}`} {
		demand, err := policy.Parse([]byte(document))
		if err != nil {
			log.Fatal(err)
		}
		ask.Policies = append(ask.Policies, demand)
	}
	evidence := verify.Gather(context.Background(), src, image.Identifier(), time.Now(), verify.Options{Trust: roots}, ask)
	for _, demand := range ask.Policies {
		v := evidence.Verdict(demand) // asks nobody
		fmt.Printf("%s %q\n", v.Outcome, v.Why())
	}

	// Output:
	// accepted ""
	// rejected "provenance: source: got \"https://git.example.com/team/app\", want \"https://git.example.com/team/lib\""
}
