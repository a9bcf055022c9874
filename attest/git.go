package attest

// GitURI is the SPDX download location of a git ref, as SLSA's resolved
// dependencies name sources: git+URI@REF.
func GitURI(uri, ref string) string {
	if ref != "" {
		ref = "@" + ref
	}
	return "git+" + uri + ref
}
