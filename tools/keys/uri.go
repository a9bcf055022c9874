package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// keyURI is which key of which token a URI names (RFC 7512, section 2.3). Members that are
// empty are not compared.
type keyURI struct {
	module                             string // path of the vendor's library
	token, serial, maker, model, label string
	slot                               *uint
	id                                 []byte
}

// parseURI reads
//
//	pkcs11:token=…;serial=…;manufacturer=…;model=…;slot-id=…;object=…;id=%…;type=private?module-path=/…&pin-source=…
//
// Values are percent-encoded. The attribute pin-source is for the program that writes the PIN
// to our standard input. An attribute that is not in this list is an error, because the key
// could be another one without it.
func parseURI(uri string) (keyURI, error) {
	var k keyURI
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return k, errors.New("URI: want pkcs11:…")
	}
	path, query, _ := strings.Cut(rest, "?")
	seen := map[string]bool{}
	each := func(list, separator string, take func(name, value string) error) error {
		for _, attribute := range strings.Split(list, separator) {
			if attribute == "" {
				continue
			}
			name, raw, _ := strings.Cut(attribute, "=")
			value, err := url.PathUnescape(raw)
			if err != nil || value == "" || seen[name] {
				return fmt.Errorf("URI: attribute %s: want it once, with a percent-encoded value", name)
			}
			seen[name] = true
			if err := take(name, value); err != nil {
				return err
			}
		}
		return nil
	}
	if err := each(path, ";", k.attribute); err != nil {
		return k, err
	}
	err := each(query, "&", func(name, value string) error {
		switch name {
		case "module-path":
			k.module = value
		case "pin-source":
		default:
			return fmt.Errorf("URI: attribute %s: want module-path or pin-source", name)
		}
		return nil
	})
	if err == nil && !filepath.IsAbs(k.module) {
		err = errors.New("URI: want module-path=/PATH of the token's PKCS #11 library, such as pkcs11:token=NAME;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so")
	}
	return k, err
}

func (k *keyURI) attribute(name, value string) error {
	switch name {
	case "token":
		k.token = value
	case "serial":
		k.serial = value
	case "manufacturer":
		k.maker = value
	case "model":
		k.model = value
	case "object":
		k.label = value
	case "id":
		k.id = []byte(value)
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return fmt.Errorf("URI: slot-id: got %q, want a number", value)
		}
		slot := uint(n)
		k.slot = &slot
	case "type":
		if value != "private" {
			return fmt.Errorf("URI: type: got %q, want private", value)
		}
	default:
		return fmt.Errorf("URI: attribute %s: want token, serial, manufacturer, model, slot-id, object, id or type", name)
	}
	return nil
}

// String is the key for people.
func (k keyURI) String() string {
	var parts []string
	if k.label != "" {
		parts = append(parts, fmt.Sprintf("object %q", k.label))
	}
	if k.id != nil {
		parts = append(parts, "id "+hex.EncodeToString(k.id))
	}
	if parts == nil {
		return "any private key"
	}
	return strings.Join(parts, ", ")
}
