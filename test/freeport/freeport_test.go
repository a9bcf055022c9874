package freeport_test

import (
	"net"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/test/freeport"
)

// Whoever asks at the same time gets another address, and can listen there.
func TestAddress(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			address := freeport.Address(t)
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
			mu.Lock()
			defer mu.Unlock()
			if seen[address] {
				t.Errorf("%s was given twice", address)
			}
			seen[address] = true
		})
	}
	all.Wait()
}
