// The compiler accepts functions without a body, those of licenses.go, in a package with a file
// of assembly.
