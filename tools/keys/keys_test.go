package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestMain is also the program, if it is started under its name: the environment of each
// test is that of a process of its own.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "colophon-keys" {
		main()
		return
	}
	os.Exit(m.Run())
}

// These are stand-ins for the services, which answer as their documentation says, with real
// keys. Nobody tried the program with the services themselves.

// cloud is all services on one TLS server, to which a proxy leads whatever the host's name.
type cloud struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	grpc *grpc.Server
	env  []string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, key: key, grpc: grpc.NewServer()}
	kmspb.RegisterKeyManagementServiceServer(c.grpc, &google{cloud: c})
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"kms.eu-west-1.amazonaws.com", "login.microsoftonline.com", "team.vault.azure.net", "cloudkms.googleapis.com"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(c)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { connect(w, r, server.Listener.Addr().String()) }))
	t.Cleanup(proxy.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = []string{"PATH=/nonexistent", "HOME=" + t.TempDir(), "HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + ca, "SSL_CERT_DIR=/nonexistent"}
	return c
}

// connect is a proxy that leads every name to one address.
func connect(w http.ResponseWriter, r *http.Request, address string) {
	if r.Method != http.MethodConnect {
		http.Error(w, "want CONNECT", http.StatusMethodNotAllowed)
		return
	}
	to, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	from, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	fmt.Fprint(from, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(to, from)
	io.Copy(from, to)
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := map[string]any{}, 0
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		raw, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(raw, &body)
	}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	type object = map[string]any
	const login = "https://login.microsoftonline.com/"
	switch path := r.URL.Path; {
	case strings.HasPrefix(r.Host, "cloudkms.googleapis.com"):
		c.grpc.ServeHTTP(w, r)
	case strings.HasPrefix(r.Host, "kms."):
		c.amazon(r, body, answer)
	case path == "/common/discovery/instance":
		answer(200, object{"tenant_discovery_endpoint": login + "ours/v2.0/.well-known/openid-configuration", "metadata": []object{{"preferred_network": "login.microsoftonline.com", "preferred_cache": "login.windows.net", "aliases": []string{"login.microsoftonline.com"}}}})
	case path == "/ours/v2.0/.well-known/openid-configuration":
		answer(200, object{"issuer": login + "ours/v2.0", "authorization_endpoint": login + "ours/oauth2/v2.0/authorize", "token_endpoint": login + "ours/oauth2/v2.0/token"})
	case path == "/ours/oauth2/v2.0/token":
		answer(200, object{"token_type": "Bearer", "expires_in": 3600, "access_token": "azure-token"})
	case r.Host == "team.vault.azure.net" && r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", `Bearer authorization="`+login+`ours", resource="https://vault.azure.net"`)
		answer(401, object{})
	case strings.HasPrefix(path, "/keys/release") && r.Header.Get("Authorization") == "Bearer azure-token":
		const kid = "https://team.vault.azure.net/keys/release/1"
		if r.Method == http.MethodGet {
			point, _ := c.key.PublicKey.Bytes()
			answer(200, object{"key": object{"kid": kid, "kty": "EC-HSM", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])}})
			return
		}
		digest, _ := base64.RawURLEncoding.DecodeString(body["value"].(string))
		r, s, _ := ecdsa.Sign(rand.Reader, c.key, digest)
		raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		answer(200, object{"kid": kid, "value": base64.RawURLEncoding.EncodeToString(raw)})
	default:
		answer(404, object{"error": object{"code": "NotFound", "message": "no " + path}})
	}
}

func (c *cloud) sign(digest []byte) []byte {
	signature, err := ecdsa.SignASN1(rand.Reader, c.key, digest)
	if err != nil {
		c.t.Error(err)
	}
	return signature
}

func (c *cloud) amazon(r *http.Request, body map[string]any, answer func(int, any)) {
	type object = map[string]any
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKID/") {
		answer(400, object{"__type": "UnrecognizedClientException", "message": "The security token included in the request is invalid."})
		return
	}
	if body["KeyId"] != "alias/release" {
		answer(400, object{"__type": "NotFoundException", "message": "Alias is not found."})
		return
	}
	der, _ := x509.MarshalPKIXPublicKey(c.key.Public())
	algorithms := []string{"ECDSA_SHA_256"}
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.GetPublicKey":
		answer(200, object{"KeyId": "1", "PublicKey": der, "SigningAlgorithms": algorithms, "KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256"})
	case "TrentService.DescribeKey":
		answer(200, object{"KeyMetadata": object{"KeyId": "1", "SigningAlgorithms": algorithms}})
	case "TrentService.Sign":
		digest, _ := base64.StdEncoding.DecodeString(body["Message"].(string))
		answer(200, object{"KeyId": "1", "Signature": c.sign(digest), "SigningAlgorithm": body["SigningAlgorithm"]})
	}
}

type google struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*cloud
}

func (g *google) GetCryptoKey(context.Context, *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	return &kmspb.CryptoKey{Purpose: kmspb.CryptoKey_ASYMMETRIC_SIGN}, nil
}

func (g *google) GetCryptoKeyVersion(_ context.Context, r *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	return &kmspb.CryptoKeyVersion{Name: r.Name, Algorithm: kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256}, nil
}

func (g *google) GetPublicKey(context.Context, *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	public, err := cryptoutils.MarshalPublicKeyToPEM(g.key.Public())
	return &kmspb.PublicKey{Pem: string(public)}, err
}

func (g *google) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	signature := g.sign(r.Digest.GetSha256())
	sum := int64(crc32.Checksum(signature, crc32.MakeTable(crc32.Castagnoli)))
	return &kmspb.AsymmetricSignResponse{Signature: signature, SignatureCrc32C: wrapperspb.Int64(sum), VerifiedDigestCrc32C: true}, nil
}

// vault is the part of Vault's transit engine that signs.
func (c *cloud) vault(t *testing.T) string {
	public, err := cryptoutils.MarshalPublicKeyToPEM(c.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "vault-token" {
			w.WriteHeader(403)
			fmt.Fprint(w, `{"errors":["permission denied"]}`)
			return
		}
		switch r.URL.Path {
		case "/v1/transit/keys/release":
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"latest_version": 1, "keys": map[string]any{"1": map[string]any{"name": "P-256", "public_key": string(public)}}}})
		case "/v1/transit/sign/release/sha2-256":
			var body struct {
				Input     []byte
				Prehashed bool
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !body.Prehashed {
				t.Errorf("vault: got %+v, error %v", body, err)
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"signature": "vault:v1:" + base64.StdEncoding.EncodeToString(c.sign(body.Input))}})
		default:
			w.WriteHeader(404)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// ask runs the program for one request.
func ask(t *testing.T, env []string, uri, stdin string, method *common.MethodArgs) (resp common.PluginResp) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	raw, err := json.Marshal(common.PluginArgs{InitOptions: &common.InitOptions{CtxDeadline: &deadline, ProtocolVersion: "v1", KeyResourceID: uri, HashFunc: crypto.SHA256, RPCOptions: &common.RPCOptions{}}, MethodArgs: method})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = []string{"colophon-keys", "v1", string(raw)}
	cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, &stderr)
	}
	if err := json.Unmarshal(out, &resp); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return resp
}

func publicKey() *common.MethodArgs {
	return &common.MethodArgs{MethodName: "publicKey", PublicKey: &common.PublicKeyArgs{PublicKeyOptions: &common.PublicKeyOptions{}}}
}

func signDigest(digest []byte) *common.MethodArgs {
	hash := crypto.SHA256
	return &common.MethodArgs{MethodName: "signMessage", SignMessage: &common.SignMessageArgs{SignOptions: &common.SignOptions{MessageOptions: common.MessageOptions{Digest: &digest, HashFunc: &hash}}}}
}

func TestServices(t *testing.T) {
	c := newCloud(t)
	vault := c.vault(t)
	amazon := []string{"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=secret"}
	azure := []string{"AZURE_TENANT_ID=ours", "AZURE_CLIENT_ID=client", "AZURE_CLIENT_SECRET=secret"}
	for uri, env := range map[string][]string{
		"awskms:///alias/release":                                                     amazon,
		"azurekms://team.vault.azure.net/release":                                     azure,
		"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1": {"GOOGLE_APPLICATION_CREDENTIALS=" + account(t)},
		"hashivault://release":                                                        {"VAULT_ADDR=" + vault, "VAULT_TOKEN=vault-token"},
		"openbao://release":                                                           {"BAO_ADDR=" + vault, "BAO_TOKEN=vault-token"},
	} {
		t.Run(uri, func(t *testing.T) {
			env := append(env, c.env...)
			got := ask(t, env, uri, "", publicKey())
			if got.PublicKey == nil {
				t.Fatalf("got error %q", got.ErrorMessage)
			}
			public, err := cryptoutils.UnmarshalPEMToPublicKey(got.PublicKey.PublicKeyPEM)
			if err != nil || !c.key.PublicKey.Equal(public) {
				t.Errorf("got another public key, error %v", err)
			}
			digest := sha256.Sum256([]byte(uri))
			if got = ask(t, env, uri, "", signDigest(digest[:])); got.SignMessage == nil || !ecdsa.VerifyASN1(&c.key.PublicKey, digest[:], got.SignMessage.Signature) {
				t.Errorf("got no signature of the digest, error %q", got.ErrorMessage)
			}
		})
	}
	for uri, tt := range map[string]struct {
		env  []string
		want string
	}{
		"awskms:///alias/other":  {amazon, "NotFoundException"},
		"awskms:///release":      {amazon, "awskms://[ENDPOINT]/[ID/ALIAS/ARN]"},
		"hashivault://other":     {[]string{"VAULT_ADDR=" + vault, "VAULT_TOKEN=vault-token"}, "could not read data from transit key path"},
		"hashivault://release":   {[]string{"VAULT_ADDR=" + vault, "VAULT_TOKEN=stolen"}, "permission denied"},
		"azurekms://team/a/b/c/": {azure, "azurekms://[VAULT_NAME]"},
		"k8s://ns/key":           {nil, "the key is none of"},
	} {
		if got := ask(t, append(tt.env, c.env...), uri, "", publicKey()); !strings.Contains(got.ErrorMessage, tt.want) {
			t.Errorf("%s: got error %q, want %q in it", uri, got.ErrorMessage, tt.want)
		}
	}
	for want, m := range map[string]*common.MethodArgs{
		"want publicKey or signMessage": {MethodName: "createKey", CreateKey: &common.CreateKeyArgs{Algorithm: "ECC_NIST_P256"}},
		"want a digest of SHA-256":      signDigest([]byte("short")),
	} {
		if got := ask(t, append(amazon, c.env...), "awskms:///alias/release", "message", m); !strings.Contains(got.ErrorMessage, want) {
			t.Errorf("%s: got error %q", want, got.ErrorMessage)
		}
	}
}

// account writes the file of a Google service account.
func account(t *testing.T) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "1", "client_email": "ci@p.iam.gserviceaccount.com", "client_id": "1", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestParseURI(t *testing.T) {
	const module = "?module-path=/m.so"
	got, err := parseURI("pkcs11:token=My%20token;slot-id=3;object=a%3Bb;id=%01%FF;type=private" + module + "&pin-source=file:/pin")
	if err != nil || got.module != "/m.so" || got.token != "My token" || *got.slot != 3 || got.label != "a;b" || string(got.id) != "\x01\xff" {
		t.Errorf("got %+v, error %v", got, err)
	}
	for uri, want := range map[string]string{
		"token=a" + module:                           "want pkcs11:",
		"pkcs11:token=a":                             "want module-path",
		"pkcs11:token=a?module-path=m.so":            "want module-path",
		"pkcs11:token=a;token=b" + module:            "want it once",
		"pkcs11:token=%zz" + module:                  "percent-encoded",
		"pkcs11:token=" + module:                     "percent-encoded",
		"pkcs11:type=cert" + module:                  "want private",
		"pkcs11:slot-id=-1" + module:                 "want a number",
		"pkcs11:library-version=1" + module:          "attribute library-version",
		"pkcs11:token=a" + module + "&pin-value=1":   "attribute pin-value",
		"pkcs11:token=a" + module + "&module-name=x": "attribute module-name",
	} {
		if _, err := parseURI(uri); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", uri, err, want)
		}
	}
}
