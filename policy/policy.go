// Package policy says what a consumer demands of an image.
package policy

// Policy is a demand. Source or AnySource must be set: knowing who signed is
// worthless without saying who should have.
type Policy struct {
	Source    string   `json:"source,omitempty"`    // canonical repository URI, compared whole
	AnySource bool     `json:"anySource,omitempty"` // dangerous: accepts images of any repository
	Ref       string   `json:"ref,omitempty"`       // full ref, or a short tag or branch name
	Commit    string   `json:"commit,omitempty"`    // hex
	Builders  []string `json:"builders,omitempty"`  // accepted builder ids; empty: those the trust root names
	MinLevel  int      `json:"minLevel,omitempty"`  // SLSA Build level that the builder must be trusted for
	NoSBOM    bool     `json:"noSBOM,omitempty"`    // an image without an SBOM is accepted
}
