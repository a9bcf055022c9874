package oci_test

import (
	"context"
	"fmt"
	"log"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
)

// List what is attached to an image. An image in a registry is named as in
// registry.example.com/team/app:v1.2.0.
func ExampleAttachments() {
	ctx := context.Background()
	image, err := oci.ParseReference("../verify/testdata/example/app:v1.2.0")
	if err != nil {
		log.Fatal(err)
	}
	src, err := image.Open(oci.RegistryOptions{})
	if err != nil {
		log.Fatal(err)
	}
	d, err := src.Resolve(ctx, image.Identifier())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.MediaType, d.Digest)
	list, err := oci.Attachments(ctx, src, d.Digest, oci.CosignSignatures, oci.CosignAttestations)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range list {
		fmt.Println(a.Annotations[attest.AnnotationType], a.Err)
	}

	// Unordered output:
	// application/vnd.oci.image.index.v1+json sha256:e87d5964324ac2f84136617fd7dca5e47c40b754543c01bd0b662b86ee2bf90f
	// https://sigstore.dev/cosign/sign/v1 <nil>
	// https://slsa.dev/provenance/v1 <nil>
	// https://cyclonedx.org/bom <nil>
	// https://spdx.dev/Document/v2.3 <nil>
}

// Parse the names of images.
func ExampleParseReference() {
	for _, name := range []string{"registry.example.com/team/app:v1.2.0", "./layout", "layout.tar:v1.2.0", "nginx"} {
		r, err := oci.ParseReference(name)
		fmt.Printf("%q %q %q %v\n", r.Repository, r.Dir, r.Identifier(), err)
	}

	// Output:
	// "registry.example.com/team/app" "" "v1.2.0" <nil>
	// "" "./layout" "" <nil>
	// "" "layout.tar" "v1.2.0" <nil>
	// "" "nginx" "" <nil>
}
