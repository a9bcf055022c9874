// Hello is a binary with one dependency, for a scanner to find.
package main

import (
	"fmt"

	"golang.org/x/mod/semver"
)

func main() { fmt.Println(semver.Canonical("v1.2")) }
