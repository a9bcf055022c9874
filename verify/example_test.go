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

// Verify an image: which trust roots, which image, and what to demand of it. An
// image in a registry is named as in registry.example.com/team/app:v1.2.0.
func ExampleImage() {
	roots, err := trust.Store{Dir: "testdata/example/trust"}.Load() // as `colophon trust add` fills it
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
	demand, err := policy.Parse([]byte(`{"source": "git.example.com/team/app", "ref": "refs/tags/v1.2.0"}`))
	if err != nil {
		log.Fatal(err)
	}
	v := verify.Image(context.Background(), src, image.Identifier(), time.Now(), verify.Options{Trust: roots, Policy: demand})
	fmt.Println(v.Outcome) // v.Why() says why not
	for _, l := range v.Links {
		fmt.Println(l.Name, l.Status)
	}

	// Output:
	// accepted
	// image holds
	// signature holds
	// log holds
	// provenance holds
	// source not asked
	// sbom holds
}
