//go:build !linux

package main

func startScanner(string, string, string, func(string)) (scanner, error) {
	return nil, &exitError{code: exitFailure, msg: "colophon sbom scans on Linux only", hint: "run it in a container or a pipeline on Linux; sbom diff, check and merge work here"}
}
