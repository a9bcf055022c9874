package audit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/test/await"
)

// One writer that floods the ledger delays the others by a batch, and no more.
func TestFair(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	loud, quiet := enrolled(t, l, "gate", "loud"), enrolled(t, l, "gate", "quiet")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for range 300 {
		wait.Go(func() {
			for ctx.Err() == nil {
				e, err := loud.Seal(verdict(1), time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := l.Append(ctx, e.Marshal()); err != nil && !errors.Is(err, ErrBusy) && ctx.Err() == nil {
					t.Error(err)
				} else if err != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	for range 20 {
		await.Quick(t, "a record of the quiet writer", 2*time.Second, func() {
			if _, err := l.Append(context.Background(), quiet.entry(t, verdict(2))); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// large returns a verdict with nearly as many bytes as a record can have.
func large() records.Record {
	r := verdict(1)
	for range 10 {
		r.Rules = append(r.Rules, records.Rule{Policy: strings.Repeat("p", records.MaxText), Rule: "ours", Outcome: r.Outcome})
	}
	return r
}

// Writers of the largest entries do not fill the memory while the tree stands still; what the ledger
// acknowledged arrives, and is not kept in the journal for long.
func TestLargeEntries(t *testing.T) {
	goOn := make(chan struct{})
	var stop atomic.Bool
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, step: func(name string) {
		if name == "tiles" && stop.Load() {
			<-goOn
		}
	}})
	w := enrolled(t, l, "gate", "")
	before := l.current.Load().Size
	stop.Store(true)
	var taken, refused atomic.Int64
	var wait sync.WaitGroup
	slots := make(chan struct{}, 100)
	size := len(w.entry(t, large()))
	for range 2 * maxAhead / size {
		data := w.entry(t, large())
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			switch _, err := l.Append(context.Background(), data); {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, ErrBusy):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	l.mu.Lock()
	ahead := bytesOf(l.behind)
	l.mu.Unlock()
	if most := int64(maxAhead + 100*size); ahead > most || taken.Load() == 0 || refused.Load() == 0 {
		t.Errorf("the tree stands still: got %d bytes, %d entries taken and %d refused, want at most %d bytes", ahead, taken.Load(), refused.Load(), most)
	}
	close(goOn)
	settled(t, l)
	if got := l.current.Load().Size - before; got != taken.Load() {
		t.Errorf("got %d entries, want %d", got, taken.Load())
	}
	l.mu.Lock()
	if l.queuedBytes != 0 || l.behindBytes != 0 {
		t.Errorf("nothing waits, and %d and %d bytes are counted", l.queuedBytes, l.behindBytes)
	}
	l.mu.Unlock()
	if _, err := l.Append(context.Background(), w.entry(t, large())); err != nil {
		t.Error(err)
	}
	// A start reads into memory what the tree does not have for good.
	if err := l.do(context.Background(), func() error {
		if l.unsettled >= settleBytes {
			t.Errorf("%d bytes of the journal are not settled, want less than %d", l.unsettled, settleBytes)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
