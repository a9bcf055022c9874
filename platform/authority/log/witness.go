package log

import (
	"context"
	"errors"
	"time"

	"github.com/colophon-build/colophon/platform/authority/witnesses"
)

// maxBehind is how old a cosigned checkpoint may be that is served in place of a newer one without
// cosignatures. A log with many entries would otherwise never serve a cosigned one.
const maxBehind = 2 * time.Second

// errNoQuorum means that too few witnesses have cosigned the entry's checkpoint. The entry is in the
// log: the client should send it again.
var errNoQuorum = errors.New("the entry is in the log, but too few witnesses have cosigned its checkpoint yet; try again")

func offer(v *view) witnesses.Offer {
	return witnesses.Offer{Checkpoint: v.Checkpoint, Signed: v.signed, Source: source{v}}
}

// witnessed returns v or a newer checkpoint, with cosignatures. If no quorum is needed, it waits only
// a moment for one, and returns what came in.
func (s *Server) witnessed(ctx context.Context, v *view) (witnesses.Cosigned, error) {
	plain := witnesses.Cosigned{Offer: offer(v), Envelope: v.signed}
	if s.witnesses == nil {
		return plain, nil
	}
	if !s.needWitnesses {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.witnessWait)
		defer cancel()
	}
	c, ok := s.witnesses.Await(ctx, v.Size)
	switch {
	case ok && c.Quorum:
		return c, nil
	case s.needWitnesses:
		return c, errNoQuorum
	case ok:
		return c, nil
	}
	return plain, nil
}

// shown returns the checkpoint for clients: the newest, or a cosigned one that is hardly older. If
// witnesses are needed, it is the newest with a quorum, once there was one since the start. It is never older than what shown returned
// before: to those who follow the log, it would have been rolled back.
func (s *Server) shown() []byte {
	if s.witnesses == nil {
		return s.current.Load().signed
	}
	s.showing.Lock()
	defer s.showing.Unlock()
	if size, signed := s.choose(); size >= s.shownSize {
		s.shownSize, s.shownLast = size, signed
	}
	return s.shownLast
}

// choose returns the checkpoint that clients should see, and its size.
func (s *Server) choose() (size int64, signed []byte) {
	v := s.current.Load()
	c, ok := s.witnesses.Latest()
	if ok && (s.needWitnesses || c.Size == v.Size || time.Since(c.Since) < maxBehind) {
		return c.Size, c.Envelope
	}
	if part, ok := s.witnesses.Seen(v.Size); ok {
		return part.Size, part.Envelope
	}
	return v.Size, v.signed
}
