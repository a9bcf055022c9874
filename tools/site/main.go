// Command site turns README.md, docs/, spec/ and examples/ of a repository into a
// static site: HTML pages with navigation and a search that needs no server. The site
// also works from file://.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "out/site", "directory to write the site to, which is replaced")
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
