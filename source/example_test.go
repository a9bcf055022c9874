package source_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
)

// Fetch the commit that a tag points to, export its files, and ask later whether the
// repository still has it.
func Example() {
	ctx, dir := context.Background(), tempDir()
	defer os.RemoveAll(dir)
	uri := exampleRepository(filepath.Join(dir, "origin"))
	bare := filepath.Join(dir, "bare")
	if err := os.Mkdir(bare, 0o700); err != nil {
		log.Fatal(err)
	}
	repo, commit, err := source.Fetch(ctx, bare, source.Request{URI: uri, Ref: "v1.0.0"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(commit.Ref, commit.ID, commit.Signature.Status)
	tree, err := repo.Export(ctx, filepath.Join(dir, "tree"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("tree", tree.ID)
	standing, err := source.Lookup(ctx, source.Question{URI: uri, Ref: commit.Ref, Commit: commit.ID})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(standing)

	// Output:
	// refs/tags/v1.0.0 f0ad45bfa78d6d20120fe92b6116513182709ed3 unsigned
	// tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
	// commit is there, unchanged
}

func ExampleCanonical() {
	for _, address := range []string{"git@github.com:org/app.git", "https://GitHub.com/org/app/", "github.com/org/app"} {
		uri, err := source.Canonical(address)
		fmt.Println(uri, err)
	}

	// Output:
	// ssh://git@github.com/org/app.git <nil>
	// https://github.com/org/app <nil>
	// https://github.com/org/app <nil>
}

func tempDir() string {
	dir, err := os.MkdirTemp("", "source")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// exampleRepository makes a repository in dir, with one commit and the tag v1.0.0, and
// returns its address.
func exampleRepository(dir string) string {
	if err := os.Mkdir(dir, 0o700); err != nil {
		log.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"commit", "-q", "--allow-empty", "-m", "first"}, {"tag", "v1.0.0"}} {
		if out, err := gittest.Command(dir, args...).CombinedOutput(); err != nil {
			log.Fatalf("git %s: %v: %s", args[0], err, out)
		}
	}
	return source.FileURI(dir)
}
