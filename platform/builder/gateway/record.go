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

// line is one line of the record that a gateway in a process of its own writes as
// JSON. The first line is the certificate of its CA. Then follows each exchange when
// it has finished. The last line is the end, with the number of exchanges; a record
// without it was cut off.
type line struct {
	CA       string            `json:"ca,omitempty"` // PEM
	N        int               `json:"n,omitempty"`  // with Exchange: the number of the request, from 1
	Exchange *builder.Exchange `json:"exchange,omitempty"`
	End      bool              `json:"end,omitempty"`
	Count    int               `json:"count,omitempty"` // with End: the number of exchanges
}

const (
	maxRecord = 64 << 20  // bytes of a record; the gateway refuses further requests when it is larger
	maxLine   = 512 << 10 // bytes
)

// Run runs a gateway in this process: it serves the connections that l accepts until
// ctx is done, and writes the record to out for ReadRecord. If Run returns an error,
// the record has no end.
func Run(ctx context.Context, l net.Listener, s Settings, out io.Writer) error {
	g, err := New(s)
	if err != nil {
		return err
	}
	return g.run(ctx, l, out)
}

func (g *Gateway) run(ctx context.Context, l net.Listener, out io.Writer) (err error) {
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	writeLine := func(v line) error { return errors.Join(enc.Encode(v), w.Flush()) }
	if err := writeLine(line{CA: string(g.CA())}); err != nil {
		return err
	}
	g.emit = func(n int, e *builder.Exchange) error { return writeLine(line{N: n + 1, Exchange: e}) }
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-g.ctx.Done(): // the record cannot be written
	case err = <-served: // not nil: only stop ends Serve without an error
	}
	if err = errors.Join(err, g.stop(), g.broken); err != nil {
		return err
	}
	return writeLine(line{End: true, Count: g.begun})
}

// ReadRecord reads the record that Run writes, and returns the exchanges in the order
// of their requests. It calls started once, when the gateway is ready. It returns an
// error if the record was cut off.
func ReadRecord(r io.Reader, started func(ca []byte)) ([]builder.Exchange, error) {
	// Exchanges that were running when the record reached its maximum still follow.
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
			return nil, fmt.Errorf("line %d: want the CA on the first line and nowhere else", n+1)
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
			return nil, fmt.Errorf("line %d: got %.200q, want an exchange, or the end with a count of %d", n+1, scan.Text(), len(seen))
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
