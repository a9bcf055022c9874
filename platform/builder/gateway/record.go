package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// A gateway in a process of its own tells its record as lines of JSON: the
// certificate of its CA, each exchange when it has finished, and an end that says
// how many there were. What has no end was cut off.
type line struct {
	CA       string            `json:"ca,omitempty"` // PEM
	N        int               `json:"n,omitempty"`  // which request it was, from 1
	Exchange *builder.Exchange `json:"exchange,omitempty"`
	End      bool              `json:"end,omitempty"`
	Count    int               `json:"count,omitempty"` // with End: exchanges
}

const (
	maxRecord = 64 << 20  // bytes of the record after which no further request is taken
	maxLine   = 512 << 10 // bytes
)

// Run is a gateway as a process: it answers what l accepts until ctx ends, and
// writes to out what ReadRecord reads. An error means that the record has no end.
func Run(ctx context.Context, l net.Listener, s Settings, out io.Writer) error {
	g, err := New(s)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	tell := func(v line) error { return errors.Join(enc.Encode(v), w.Flush()) }
	if err := tell(line{CA: string(g.CA())}); err != nil {
		return err
	}
	g.emit = func(n int, e *builder.Exchange) error { return tell(line{N: n + 1, Exchange: e}) }
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-g.ctx.Done(): // the record cannot be written
	case err = <-served:
		if err == nil {
			err = errors.New("the gateway's listener was closed")
		}
	}
	if err = errors.Join(err, g.stop(), g.broken); err != nil {
		return err
	}
	return tell(line{End: true, Count: g.begun})
}

// ReadRecord reads what Run writes, and returns the exchanges in the order of
// the requests. It calls started, once, when the gateway stands. A record that
// was cut off is an error.
func ReadRecord(r io.Reader, started func(ca []byte)) ([]builder.Exchange, error) {
	// What was under way when the record was full may still come.
	scan := bufio.NewScanner(io.LimitReader(r, 2*maxRecord))
	scan.Buffer(make([]byte, 0, 64<<10), maxLine)
	seen := map[int]*builder.Exchange{}
	for n := 0; scan.Scan(); n++ {
		var v line
		if err := strict.UnmarshalKnown(scan.Bytes(), maxLine, &v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		switch {
		case (n == 0) != (v.CA != ""):
			return nil, fmt.Errorf("line %d: want the CA first, and once", n+1)
		case n == 0:
			started([]byte(v.CA))
		case v.Exchange != nil && !v.End && v.N > 0 && v.N <= limits.LockFetches && seen[v.N] == nil:
			seen[v.N] = v.Exchange
		case v.End && v.Exchange == nil && v.Count == len(seen):
			if scan.Scan() {
				return nil, errors.New("the record goes on after its end")
			}
			return inOrder(seen)
		default:
			return nil, fmt.Errorf("line %d: got %.200q, want an exchange or the end of %d", n+1, scan.Text(), len(seen))
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the record was cut off after %d exchanges", len(seen))
}

func inOrder(seen map[int]*builder.Exchange) ([]builder.Exchange, error) {
	out := make([]builder.Exchange, len(seen))
	for i := range out {
		e := seen[i+1]
		if e == nil {
			return nil, fmt.Errorf("exchange %d of %d is missing", i+1, len(seen))
		}
		out[i] = *e
	}
	return out, nil
}
