package tlog_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/colophon-build/colophon/tlog"
)

// logEntry is an entry of a Rekor v2 log as a Sigstore bundle contains it.
type logEntry struct {
	LogIndex          int64  `json:"logIndex,string"`
	CanonicalizedBody []byte `json:"canonicalizedBody"`
	InclusionProof    struct {
		Hashes     [][]byte `json:"hashes"`
		Checkpoint struct {
			Envelope string `json:"envelope"`
		} `json:"checkpoint"`
	} `json:"inclusionProof"`
}

func readEntry(path string) logEntry {
	var bundle struct {
		VerificationMaterial struct {
			TlogEntries []logEntry `json:"tlogEntries"`
		} `json:"verificationMaterial"`
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &bundle)
	}
	if err != nil {
		log.Fatal(err)
	}
	return bundle.VerificationMaterial.TlogEntries[0]
}

// Verify that an entry is in a log: the log's key signed the checkpoint, and the
// proof leads from the entry to the root of the checkpoint.
func Example() {
	entry := readEntry("../bundle/testdata/rekor2-dsse/bundle.sigstore.json")
	der, err := base64.StdEncoding.DecodeString("MCowBQYDK2VwAyEAlD3dVc8yaP25mPtT/sJ59D3LLxGBgW/qYrM6x6KmOqk=")
	if err != nil {
		log.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der) // of a staging log of Sigstore
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := tlog.NewVerifier("log2025-alpha3.rekor.sigstage.dev", key)
	if err != nil {
		log.Fatal(err)
	}
	checkpoint, err := tlog.OpenCheckpoint([]byte(entry.InclusionProof.Checkpoint.Envelope), verifier)
	if err != nil {
		log.Fatal(err)
	}
	var proof []tlog.Hash
	for _, h := range entry.InclusionProof.Hashes {
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.VerifyInclusion(checkpoint, entry.LogIndex, tlog.LeafHash(entry.CanonicalizedBody), proof); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("entry %d is in the tree of %d entries\n", entry.LogIndex, checkpoint.Size)

	// Output:
	// entry 4026478 is in the tree of 4026479 entries
}
