package trust_test

import (
	"fmt"
	"log"
	"os"
	"time"

	"github.com/colophon-build/colophon/trust"
)

// Read a trust root, see whom it trusts, and keep it in a store. A person compares
// the fingerprint first.
func Example() {
	raw, err := os.ReadFile("tuf/sigstore_trusted_root.json")
	if err != nil {
		log.Fatal(err)
	}
	root, err := trust.Parse(raw)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(root.Fingerprint)
	for _, ca := range trust.Authorities(root.Material) {
		w := trust.Window{From: ca.ValidityPeriodStart, Until: ca.ValidityPeriodEnd}
		fmt.Println(ca.URI, "trusted", w)
	}
	fmt.Println("stale:", root.Stale(time.Now()))

	dir, err := os.MkdirTemp("", "trust")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store := trust.Store{Dir: dir}
	if err := store.Add(root); err != nil {
		log.Fatal(err)
	}
	roots, err := store.Load()
	fmt.Println(len(roots), err)

	// Output:
	// sha256:6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66
	// https://fulcio.sigstore.dev trusted from 2021-03-07 03:20:29Z to 2022-12-31 23:59:59Z
	// https://fulcio.sigstore.dev trusted from 2022-04-13 20:06:15Z on
	// stale: false
	// 1 <nil>
}
