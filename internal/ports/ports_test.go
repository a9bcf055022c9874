package ports

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestTaken: an address that another program has is named in our words.
func TestTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	err = Run(t.Context(), &http.Server{Addr: at}, &http.Server{Addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.HasPrefix(err.Error(), at+": another program listens there") {
		t.Errorf("got %v, want that another program listens at %s", err, at)
	}
}
