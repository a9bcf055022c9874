package tuf_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// The root metadata of the public Sigstore instance is built in.
func ExampleKnown() {
	fmt.Println(tuf.Known("https://tuf-repo-cdn.sigstore.dev") != nil)
	fmt.Println(tuf.Known("https://tuf.example.com") != nil)

	// Output:
	// true
	// false
}

// Download the trust root of the public Sigstore instance, and refresh it when its
// metadata has expired.
func ExampleAdd() {
	const url = "https://tuf-repo-cdn.sigstore.dev"
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	root, err := tuf.Add(ctx, url, tuf.Known(url))
	if err != nil {
		log.Fatal(err)
	}
	store := trust.Store{Dir: "/etc/verifier/trust"}
	if err := store.Add(root); err != nil {
		log.Fatal(err)
	}
	if root.Stale(time.Now()) {
		if root, err = tuf.Refresh(ctx, root); err != nil {
			log.Fatal(err)
		}
		if err := store.Add(root); err != nil {
			log.Fatal(err)
		}
	}
}
