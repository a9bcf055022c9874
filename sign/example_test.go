package sign_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"
)

// Sign a statement about an image with the identity in an OIDC token.
func ExampleOpen() {
	services, err := root.NewSigningConfigFromPath("signing_config.json")
	if err != nil {
		log.Fatal(err)
	}
	raw, err := os.ReadFile("colophon.json")
	if err != nil {
		log.Fatal(err)
	}
	trusted, err := trust.Parse(raw)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	session, err := sign.Open(ctx, services, trusted.Material, os.Getenv("ID_TOKEN"), nil)
	if err != nil {
		log.Fatal(err)
	}
	statement, err := attest.NewStatement("reg.example.com/app", strings.Repeat("ab", 32), attest.PredicateSign, struct{}{})
	if err != nil {
		log.Fatal(err)
	}
	bundle, err := session.Statement(ctx, statement)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", bundle)
}

// Read a private key to sign with.
func ExampleParseKey() {
	key, err := sign.ParseKey(newKeyPEM(), nil)
	if err != nil {
		log.Fatal(err)
	}
	algorithm, err := sign.Algorithm(key.Public())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(algorithm.GetSignatureAlgorithm())

	// Output:
	// PKIX_ECDSA_P256_SHA_256
}

// newKeyPEM is what openssl genpkey prints: see ParseKey.
func newKeyPEM() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		log.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
