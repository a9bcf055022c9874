package limits

// TrustRepository caps the metadata and targets that a client reads from a TUF repository to
// get a trust root, in bytes.
const TrustRepository = 16 << 20
