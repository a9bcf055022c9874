package convert

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// members are those that this package knows: it converts them, or lists them as lost. Whoever
// adds one to a document decides here what becomes of it.
var members = []struct {
	document any
	members  string
}{
	{policy.SpecDocument{}, "unmatched rules"},
	{policy.RuleDocument{}, "name images mode enforceFrom onRunning accept conditions exemptions rebuilds trust log distrust"},
	{policy.DistrustDocument{}, "maxAge otherwise"},
	{policy.PatternDocument{}, "glob tag digest"},
	{policy.AcceptDocument{}, "built provenance signature notation attested summary"},
	{policy.ProvenanceDocument{}, "source ref commit workflowInputs minLevel builders requireSource sourceTrack"},
	{policy.BuiltDocument{}, "ProvenanceDocument recipe sbom root BesideDocument"},
	{policy.SignedDocument{}, "signer ProvenanceDocument BesideDocument"},
	{policy.SignatureDocument{}, "signer BesideDocument"},
	{policy.AttestedDocument{}, "BesideDocument"},
	{policy.SummaryDocument{}, "minLevel verifiers absent"},
	{policy.BesideDocument{}, "attestations absent verifiers"},
	{policy.SignerDocument{}, "certificate key insecureUnloggedKey"},
	{policy.CertificateDocument{}, "issuer identity root"},
	{policy.KeyDocument{}, "pem root"},
	{policy.UnloggedKeyDocument{}, "pem"},
	{policy.AttestationDocument{}, "predicateType signer values"},
	{policy.PredicateDocument{}, "pointer string integer boolean isNull"},
	{policy.VerifierDocument{}, "id signer resource policyDigest levels maxAge"},
	{clusterimagepolicy.Spec{}, "images authorities policy mode match"},
	{clusterimagepolicy.Authority{}, "name key keyless static source ctlog attestations rfc3161timestamp signatureFormat"},
	{clusterimagepolicy.Key{}, "data secretRef kms hashAlgorithm"},
	{clusterimagepolicy.Keyless{}, "url identities ca-cert trustRootRef insecureIgnoreSCT"},
	{clusterimagepolicy.Identity{}, "issuer subject issuerRegExp subjectRegExp"},
	{clusterimagepolicy.Static{}, "action message"},
	{clusterimagepolicy.Attestation{}, "name predicateType policy"},
	{clusterimagepolicy.Policy{}, "type data remote configMapRef fetchConfigFile includeSpec includeObjectMeta includeTypeMeta"},
}

// TestEveryMemberIsKnown: a member that a document has and this package does not know would be
// lost in silence.
func TestEveryMemberIsKnown(t *testing.T) {
	for _, d := range members {
		var got []string
		typ := reflect.TypeOf(d.document)
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				name = field.Name
			}
			got = append(got, name)
		}
		if !slices.Equal(got, strings.Fields(d.members)) {
			t.Errorf("%s: got %q, and package convert knows %q", typ, got, d.members)
		}
	}
}
