package log

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/go-json-experiment/json/jsontext"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// maxRequest is the limit of a request, in bytes. The request for the largest entry that a
// log can hold is not much larger than the entry.
const maxRequest = 128 << 10

// allowed are the signature algorithms that the log accepts. PKIX_ED25519 is not among them:
// it signs the artifact, not its digest, and a hashedrekord has only the digest.
var allowed = []common.PublicKeyDetails{
	common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
	common.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384,
	common.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512,
	common.PublicKeyDetails_PKIX_ED25519_PH,
	common.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256,
	common.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
	common.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256,
}

// panicked is the error of a request that made a parser panic.
type panicked struct {
	value any
	stack []byte // for the log only; clients do not see it
}

func (*panicked) Error() string { return "malformed entry" }

// canonicalEntry parses a request and returns its entry as clients compute it: JCS
// (RFC 8785) of the entry's protobuf JSON. Every error is the client's fault.
func canonicalEntry(request []byte, algorithms []common.PublicKeyDetails) (entry []byte, kind *bundle.KindVersion, err error) {
	// Third-party parsers read keys and certificates from strangers. If one panics, only
	// this request may fail.
	defer func() {
		if p := recover(); p != nil {
			entry, kind, err = nil, nil, &panicked{p, debug.Stack()}
		}
	}()
	var raw jsontext.Value
	if err := strict.Unmarshal(request, maxRequest, &raw); err != nil {
		return nil, nil, fmt.Errorf("malformed request: %w", err)
	}
	var req rekor.CreateEntryRequest
	if err := protojson.Unmarshal(raw, &req); err != nil {
		return nil, nil, fmt.Errorf("malformed request: %w", err)
	}
	switch req.GetSpec().(type) {
	case *rekor.CreateEntryRequest_HashedRekordRequestV002:
	case nil:
		return nil, nil, fmt.Errorf("the request has no entry type, want hashedRekordRequestV002")
	default:
		return nil, nil, fmt.Errorf("entry type: got %T, want hashedRekordRequestV002; log a DSSE envelope by the digest of its PAE", req.GetSpec())
	}
	hr := req.GetHashedRekordRequestV002()
	details := hr.GetSignature().GetVerifier().GetKeyDetails()
	if !slices.Contains(algorithms, details) {
		return nil, nil, fmt.Errorf("keyDetails: got %s, want one of %v", details, algorithms)
	}
	// Accept only the algorithm that the request names, so that the entry cannot name an
	// algorithm that does not fit its key.
	only, err := signature.NewAlgorithmRegistryConfig([]common.PublicKeyDetails{details})
	if err != nil {
		return nil, nil, err
	}
	e, err := hashedrekord.ToLogEntry(hr, only)
	if err != nil {
		return nil, nil, fmt.Errorf("invalid hashedrekord: %w", err)
	}
	serialized, err := protojson.Marshal(e)
	if err != nil {
		return nil, nil, err
	}
	if entry, err = jsoncanonicalizer.Transform(serialized); err != nil {
		return nil, nil, err
	}
	if len(entry) > tlog.MaxEntry {
		return nil, nil, fmt.Errorf("entry: got %d bytes, want at most %d", len(entry), tlog.MaxEntry)
	}
	return entry, &bundle.KindVersion{Kind: e.GetKind(), Version: e.GetApiVersion()}, nil
}
