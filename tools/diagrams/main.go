// Command diagrams draws the diagrams of docs/. It writes DIR/NAME.svg for each
// DIR/NAME.txt. The drawings are readable on light and dark pages.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: diagrams DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "diagrams:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	drawn, err := draw(dir)
	if err != nil {
		return err
	}
	for path, svg := range drawn {
		if err := os.WriteFile(path, svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// draw draws all *.txt in dir, and returns the drawings by the path of the SVG.
func draw(dir string) (map[string][]byte, error) {
	texts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s contains no *.txt", dir)
	}
	out := map[string][]byte{}
	for _, path := range texts {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		d, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		var b bytes.Buffer
		newLayout(d).svg(&b)
		out[strings.TrimSuffix(path, ".txt")+".svg"] = b.Bytes()
	}
	return out, nil
}
