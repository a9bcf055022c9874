package contents_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sbom/contents"
)

// Compare the packages that an SBOM lists with those installed in the image.
func ExampleCompare() {
	dir := alpineImage()
	defer os.RemoveAll(dir)
	src, err := oci.OpenLayout(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	image, err := src.Resolve(context.Background(), "")
	if err != nil {
		log.Fatal(err)
	}
	installed, err := contents.Read(context.Background(), src, image.Digest)
	if err != nil {
		log.Fatal(err)
	}
	listed := []sbom.Package{{Name: "openssl", Version: "3.5.0-r0", PURL: "pkg:apk/alpine/openssl@3.5.0-r0"}}
	difference := contents.Compare(listed, installed)
	fmt.Println(difference.None())
	fmt.Println(difference)

	// Output:
	// false
	// in the image and not in the SBOM: apk musl 1.2.5-r10; in the SBOM and not in the image: apk openssl 3.5.0-r0
}

// alpineImage writes a layout with an image of one package.
func alpineImage() string {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	image, err := crane.Image(map[string][]byte{"lib/apk/db/installed": []byte("P:musl\nV:1.2.5-r10\n")})
	if err != nil {
		log.Fatal(err)
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		log.Fatal(err)
	}
	if err := l.AppendImage(image); err != nil {
		log.Fatal(err)
	}
	return dir
}
