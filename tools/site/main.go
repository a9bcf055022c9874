// Command site makes the documentation a static site: README.md, docs/, spec/ and
// examples/ of a repository become HTML with navigation and a search that needs
// no server. It works from file:// too.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "out/site", "directory to write; it is replaced")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: site -o DIR REPOSITORY")
		os.Exit(2)
	}
	n, err := build(flag.Arg(0), *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d pages\n", *out, n)
}
