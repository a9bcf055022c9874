package bundle

// Unexported names for tests in package bundle_test.
var (
	ParseRecord       = parseRecord
	CertificateLogged = certificateLogged
	ParseSCTs         = parseSCTs
	WithoutSCTs       = withoutSCTs
	OIDSCTs           = oidSCTs
	OfRekor1Tree      = ofRekor1Tree
)

const MaxSCTs = maxSCTs
