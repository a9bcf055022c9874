package main

import (
	"crypto"
	"errors"
)

type module struct{}

type session struct{}

func load(string) (*module, error) {
	return nil, errors.New("keys of PKCS #11 cannot be used on Windows yet")
}

func (*module) open(keyURI, []byte) (*session, error)     { panic("no module") }
func (*session) close()                                   {}
func (*session) public() (crypto.PublicKey, error)        { panic("no session") }
func (*session) sign([]byte, crypto.Hash) ([]byte, error) { panic("no session") }
