package verify_test

import (
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

var makeExample = flag.Bool("make-example", false, "make testdata/example anew, and its provenance for package provenance; then run -update")

// TestMakeExample makes the recorded image, its proof and its trust root with new keys.
func TestMakeExample(t *testing.T) {
	if !*makeExample {
		t.Skip("NOT ASKED FOR: only with -make-example, after a change of what proofs say")
	}
	p, store := prooftest.New(t), prooftest.NewStore(t)
	p.CAUntil = p.CAFrom.AddDate(100, 0, 0)
	r := p.Release(store)
	r.Attach(prooftest.Kinds...)
	for _, dir := range []string{"testdata/example/app", "testdata/example/trust"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	app, err := oci.CreateLayout("testdata/example/app")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if _, err := oci.Save(t.Context(), app, store, r.Image, "", nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Tag(t.Context(), "v1.2.0", r.Image); err != nil {
		t.Fatal(err)
	}
	if err := (trust.Store{Dir: "testdata/example/trust"}).Add(p.Root()); err != nil {
		t.Fatal(err)
	}
	statement := r.Statement(attest.PredicateSLSA1)
	var certificate []byte
	p.Sign(r.Signer(), statement, func(b *protobundle.Bundle) { certificate = b.GetVerificationMaterial().GetCertificate().GetRawBytes() })
	dir := "../provenance/testdata/colophon"
	for name, data := range map[string][]byte{
		"statement.json": statement, "certificate.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
