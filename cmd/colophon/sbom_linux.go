package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/zone"
)

// scanLimits are the limits of the process that scans, those of a release.
var scanLimits = zone.Limits{Memory: 2 << 30, Scratch: 1 << 30, FileSize: limits.LayerPacked, Files: 4096, Processes: 1000, Time: 15 * time.Minute}

// startScanner starts colophon-scan. The process has no network and starts no programs. It can
// write to dir, and sees no other file than show. Where the kernel gives it no namespaces, it sees
// what this process sees, which startScanner says.
func startScanner(task, dir, show string, say func(hint string)) (scanner, error) {
	program, err := scannerProgram()
	if err != nil {
		return nil, err
	}
	top, err := os.ReadDir("/")
	if err != nil {
		return nil, err
	}
	at := zone.Apart{Program: program, Task: task, Dir: dir, Show: []string{show}, Namespaces: true, Limits: scanLimits}
	for _, e := range top {
		if path := filepath.Join("/", e.Name()); path != "/proc" && path != "/tmp" {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				at.Hide = append(at.Hide, path)
			}
		}
	}
	s, err := startConfined(at)
	if err == nil {
		return s, nil
	}
	if !errors.Is(err, zone.ErrNoNamespaces) {
		return nil, err
	}
	at.Namespaces = false
	s, second := startConfined(at)
	if second != nil {
		return nil, fmt.Errorf("%w; without namespaces: %w", err, second)
	}
	say("colophon-scan can read all files that you can read: " + err.Error())
	return s, nil
}

// startConfined starts the process and returns when it has confined itself.
func startConfined(at zone.Apart) (*zone.Item, error) {
	i, err := at.Start()
	if err != nil {
		return nil, err
	}
	var none any
	if err := i.Do(context.Background(), nil, &none); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}
