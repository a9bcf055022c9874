package bundle

// What tests outside of the package look at.
var (
	ParseRecord       = parseRecord
	CertificateLogged = certificateLogged
	ParseSCTs         = parseSCTs
	WithoutSCTs       = withoutSCTs
	OIDSCTs           = oidSCTs
	OfRekor1Tree      = ofRekor1Tree
)

const MaxSCTs = maxSCTs
