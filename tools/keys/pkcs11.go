//go:build !windows

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// What follows is of PKCS #11 2.40, section numbers of its base specification. A CK_ULONG is a
// C unsigned long, which has the size of a pointer on every system but Windows.
type ulong = uintptr

// Places of functions in CK_FUNCTION_LIST (section 3.6), counted after its version.
const (
	fnInitialize    = 0
	fnFinalize      = 1
	fnGetSlotList   = 4
	fnGetTokenInfo  = 6
	fnOpenSession   = 12
	fnCloseSession  = 13
	fnLogin         = 18
	fnGetAttribute  = 24
	fnFindInit      = 26
	fnFind          = 27
	fnFindFinal     = 28
	fnSignInit      = 42
	fnSign          = 43
	functionsNeeded = 44
)

const (
	sessionSerial = 4 // CKF_SERIAL_SESSION
	userNormal    = 1 // CKU_USER

	classPublic  ulong = 2
	classPrivate ulong = 3
	keyTypeRSA   ulong = 0
	keyTypeEC    ulong = 3
	mechanismRSA ulong = 1      // CKM_RSA_PKCS: signs a DigestInfo (RFC 8017, 9.2)
	mechanismEC  ulong = 0x1041 // CKM_ECDSA: signs a digest

	attrClass   ulong = 0
	attrLabel   ulong = 3
	attrKeyType ulong = 0x100
	attrID      ulong = 0x102
	attrModulus ulong = 0x120
	attrExp     ulong = 0x122
	attrParams  ulong = 0x180
	attrPoint   ulong = 0x181

	maxSlots     = 1024
	maxAttribute = 64 << 10
)

// attribute is a CK_ATTRIBUTE.
type attribute struct {
	kind  ulong
	value unsafe.Pointer
	size  ulong
}

// tokenInfo is a CK_TOKEN_INFO.
type tokenInfo struct {
	label, maker  [32]byte
	model, serial [16]byte
	flags         ulong
	_             [10]ulong
	_             [20]byte
}

const (
	flagInitialized = 0x400   // CKF_TOKEN_INITIALIZED
	flagPINLow      = 0x10000 // CKF_USER_PIN_COUNT_LOW
	flagPINFinal    = 0x20000 // CKF_USER_PIN_FINAL_TRY
	flagPINLocked   = 0x40000 // CKF_USER_PIN_LOCKED
)

// module is the library of a token's vendor, in this process.
type module struct{ functions *[functionsNeeded]uintptr }

func load(path string) (*module, error) {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("module-path: %w", err)
	}
	get, err := purego.Dlsym(lib, "C_GetFunctionList")
	if err != nil {
		return nil, fmt.Errorf("module-path: %s is no PKCS #11 library: %w", path, err)
	}
	// CK_FUNCTION_LIST: a version of two bytes, padded to the size of a pointer.
	var list *struct {
		version   uintptr
		functions [functionsNeeded]uintptr
	}
	if rv, _, _ := purego.SyscallN(get, uintptr(unsafe.Pointer(&list))); rv != 0 || list == nil {
		return nil, failed("C_GetFunctionList", rv)
	}
	m := &module{&list.functions}
	return m, m.call("C_Initialize", fnInitialize, 0)
}

//go:uintptrescapes
func (m *module) call(name string, function int, args ...uintptr) error {
	if rv, _, _ := purego.SyscallN(m.functions[function], args...); rv != 0 {
		return failed(name, rv)
	}
	return nil
}

// code is a CK_RV that is no success.
type code uintptr

const (
	pinIncorrect code = 0xa0
	pinInvalid   code = 0xa1
	pinLength    code = 0xa2
	pinExpired   code = 0xa3
	pinLocked    code = 0xa4
)

func (c code) Error() string {
	known := map[code]string{
		0x5: "general error", 0x30: "device error", 0x31: "device memory", 0x32: "device removed", 0x54: "function not supported", 0x63: "key type inconsistent", 0x68: "key function not permitted",
		0x70: "mechanism invalid", pinIncorrect: "PIN incorrect", pinInvalid: "PIN invalid", pinLength: "PIN of a wrong length", pinExpired: "PIN expired", pinLocked: "PIN locked",
		0xe0: "token not present", 0xe1: "token not recognized", 0x101: "user not logged in", 0x102: "user PIN not initialized",
	}
	if text, ok := known[c]; ok {
		return text
	}
	return fmt.Sprintf("error 0x%x of PKCS #11", uintptr(c))
}

func failed(name string, rv uintptr) error { return fmt.Errorf("%s: %w", name, code(rv)) }

// session is a session with the token of a key, logged in.
type session struct {
	*module
	handle ulong
	which  keyURI
	key    ulong // of the private key
	kind   ulong // keyTypeEC or keyTypeRSA
}

// open logs in to the one token that the URI names, and finds the one key. It tries the PIN
// once: tokens lock after some wrong ones.
func (m *module) open(which keyURI, pin []byte) (*session, error) {
	slot, err := m.find(which)
	if err != nil {
		return nil, err
	}
	s := &session{module: m, which: which}
	if err := m.call("C_OpenSession", fnOpenSession, slot, sessionSerial, 0, 0, uintptr(unsafe.Pointer(&s.handle))); err != nil {
		return nil, err
	}
	if err := m.call("C_Login", fnLogin, s.handle, userNormal, uintptr(unsafe.Pointer(&pin[0])), uintptr(len(pin))); err != nil {
		return nil, m.loginFailed(slot, err)
	}
	n := 0
	for _, kind := range []ulong{keyTypeEC, keyTypeRSA} {
		keys, err := s.objects(classPrivate, kind, which.label, which.id)
		if err != nil {
			return nil, err
		}
		if n += len(keys); len(keys) > 0 {
			s.key, s.kind = keys[0], kind
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("the token has %d private EC or RSA keys for %s, want one: name it by object=LABEL or id=%%HEX", n, which)
	}
	return s, nil
}

func (s *session) close() {
	_ = s.call("C_CloseSession", fnCloseSession, s.handle)
	_ = s.call("C_Finalize", fnFinalize, 0)
}

// loginFailed says what the user needs to know before the next try.
func (m *module) loginFailed(slot ulong, err error) error {
	var info tokenInfo
	if m.call("C_GetTokenInfo", fnGetTokenInfo, slot, uintptr(unsafe.Pointer(&info))) != nil {
		return err
	}
	switch {
	case info.flags&flagPINLocked != 0 || errors.Is(err, pinLocked):
		return errors.New("the token is locked after too many wrong PINs: its security officer can unlock it")
	case !errors.Is(err, pinIncorrect) && !errors.Is(err, pinInvalid) && !errors.Is(err, pinLength):
		return err
	case info.flags&flagPINFinal != 0:
		return errors.New("wrong PIN; the next wrong PIN locks the token")
	case info.flags&flagPINLow != 0:
		return errors.New("wrong PIN; the token locks after some more")
	}
	return errors.New("wrong PIN")
}

// find returns the slot of the one token that matches.
func (m *module) find(which keyURI) (slot ulong, err error) {
	var slots [maxSlots]ulong
	n := ulong(len(slots))
	if err := m.call("C_GetSlotList", fnGetSlotList, 1, uintptr(unsafe.Pointer(&slots)), uintptr(unsafe.Pointer(&n))); err != nil {
		return 0, err
	}
	var matching []ulong
	var names []string
	for _, s := range slots[:min(n, maxSlots)] {
		var info tokenInfo
		if err := m.call("C_GetTokenInfo", fnGetTokenInfo, s, uintptr(unsafe.Pointer(&info))); err != nil {
			return 0, err
		}
		if info.flags&flagInitialized == 0 {
			continue
		}
		names = append(names, fmt.Sprintf("%q", padded(info.label[:])))
		if which.slot != nil && ulong(*which.slot) != s {
			continue
		}
		same := func(want string, have []byte) bool { return want == "" || want == padded(have) }
		if same(which.token, info.label[:]) && same(which.serial, info.serial[:]) && same(which.maker, info.maker[:]) && same(which.model, info.model[:]) {
			matching = append(matching, s)
		}
	}
	if len(matching) != 1 {
		return 0, fmt.Errorf("%d tokens match the URI, want one; the module has the tokens: %s", len(matching), strings.Join(names, ", "))
	}
	return matching[0], nil
}

// padded returns the text of a field that blanks fill up.
func padded(field []byte) string { return strings.TrimRight(string(field), " \x00") }

// objects returns the keys of a class and kind, with a label and an id if these are not empty.
func (s *session) objects(class, kind ulong, label string, id []byte) (found []ulong, err error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	name := []byte(label)
	pin.Pin(&class)
	pin.Pin(&kind)
	size := unsafe.Sizeof(class)
	template := []attribute{{attrClass, unsafe.Pointer(&class), size}, {attrKeyType, unsafe.Pointer(&kind), size}}
	for _, a := range []struct {
		kind  ulong
		value []byte
	}{{attrLabel, name}, {attrID, id}} {
		if len(a.value) > 0 {
			pin.Pin(&a.value[0])
			template = append(template, attribute{a.kind, unsafe.Pointer(&a.value[0]), ulong(len(a.value))})
		}
	}
	if err := s.call("C_FindObjectsInit", fnFindInit, s.handle, uintptr(unsafe.Pointer(&template[0])), uintptr(len(template))); err != nil {
		return nil, err
	}
	var handles [2]ulong // two are one too many
	var n ulong
	err = s.call("C_FindObjects", fnFind, s.handle, uintptr(unsafe.Pointer(&handles)), uintptr(len(handles)), uintptr(unsafe.Pointer(&n)))
	if done := s.call("C_FindObjectsFinal", fnFindFinal, s.handle); err == nil {
		err = done
	}
	return handles[:min(n, 2)], err
}

// read returns an attribute of an object.
func (s *session) read(object, kind ulong) ([]byte, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	value := make([]byte, maxAttribute)
	pin.Pin(&value[0])
	a := attribute{kind, unsafe.Pointer(&value[0]), maxAttribute}
	if err := s.call("C_GetAttributeValue", fnGetAttribute, s.handle, object, uintptr(unsafe.Pointer(&a)), 1); err != nil {
		return nil, err
	}
	if a.size > maxAttribute {
		return nil, errors.New("C_GetAttributeValue: the module answered with more than it was given room for")
	}
	return value[:a.size], nil
}

// curves are the elliptic curves of keys, by the DER of their object identifiers.
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// public returns the public key, which is another object of the token, with the same id.
func (s *session) public() (crypto.PublicKey, error) {
	id, err := s.read(s.key, attrID)
	if err != nil {
		return nil, err
	}
	label := s.which.label
	if len(id) > 0 {
		label = "" // the id is what they have in common
	}
	objects, err := s.objects(classPublic, s.kind, label, id)
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, fmt.Errorf("the token has %d public keys for the private key, want one with the same id", len(objects))
	}
	if s.kind == keyTypeRSA {
		modulus, err := s.read(objects[0], attrModulus)
		if err != nil {
			return nil, err
		}
		exponent, err := s.read(objects[0], attrExp)
		if err != nil {
			return nil, err
		}
		e := new(big.Int).SetBytes(exponent)
		if !e.IsInt64() || e.Int64() > 1<<31-1 {
			return nil, errors.New("the RSA key has an exponent of more than 31 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e.Int64())}, nil
	}
	curve, err := s.curve(objects[0])
	if err != nil {
		return nil, err
	}
	point, err := s.read(objects[0], attrPoint)
	if err != nil {
		return nil, err
	}
	var inner []byte // the specification wants DER, some tokens have the bare point
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// curve returns the elliptic curve of a key.
func (s *session) curve(key ulong) (elliptic.Curve, error) {
	params, err := s.read(key, attrParams)
	if err != nil {
		return nil, err
	}
	curve := curves[string(params)]
	if curve == nil {
		return nil, errors.New("the key has another curve than P-256, P-384 and P-521")
	}
	return curve, nil
}

// digestInfo is what PKCS #1 v1.5 signs.
type digestInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Digest    []byte
}

// sign returns the signature of a digest: ASN.1 of ECDSA, or PKCS #1 v1.5.
func (s *session) sign(digest []byte, hash crypto.Hash) ([]byte, error) {
	if s.kind == keyTypeRSA {
		if hash != crypto.SHA256 {
			return nil, fmt.Errorf("RSA signs SHA-256 digests, got %s", hash)
		}
		info, err := asn1.Marshal(digestInfo{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}, digest})
		if err != nil {
			return nil, err
		}
		return s.signWith(mechanismRSA, info)
	}
	raw, err := s.signWith(mechanismEC, digest)
	if err != nil {
		return nil, err
	}
	if len(raw)%2 != 0 {
		return nil, fmt.Errorf("C_Sign: got a signature of %d bytes, want two numbers of one size", len(raw))
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

// signWith returns what a mechanism of the token makes of data.
func (s *session) signWith(mechanism ulong, data []byte) ([]byte, error) {
	type ckMechanism struct {
		kind      ulong
		parameter unsafe.Pointer
		size      ulong
	}
	with := ckMechanism{kind: mechanism}
	if err := s.call("C_SignInit", fnSignInit, s.handle, uintptr(unsafe.Pointer(&with)), s.key); err != nil {
		return nil, err
	}
	raw := make([]byte, 1024)
	n := ulong(len(raw))
	if err := s.call("C_Sign", fnSign, s.handle, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&raw[0])), uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	if n == 0 || n > ulong(len(raw)) {
		return nil, fmt.Errorf("C_Sign: got a signature of %d bytes, want 1 to %d", n, len(raw))
	}
	return raw[:n], nil
}
