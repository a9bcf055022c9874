package limits

// TrustRepository caps what a TUF repository leads to a trust root by, in bytes.
const TrustRepository = 16 << 20
