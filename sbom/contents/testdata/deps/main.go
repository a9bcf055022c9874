// Deps is a program with a module beside its own.
package main

import "golang.org/x/sync/errgroup"

func main() { new(errgroup.Group).Wait() }
