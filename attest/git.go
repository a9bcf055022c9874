package attest

// GitURI returns git+URI@REF, or git+URI if ref is empty. This is the SPDX
// download location of a git source, and how SLSA provenance names a source in
// its resolved dependencies.
func GitURI(uri, ref string) string {
	if ref != "" {
		ref = "@" + ref
	}
	return "git+" + uri + ref
}
