package verify

import "github.com/colophon-build/colophon/attest"

// OddRekor1 says whether sigstore-go does not read the bundle's log entry.
func OddRekor1(b *attest.Signed) bool { return oddRekor1(b) != nil }
