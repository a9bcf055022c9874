package zone

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Updates is a value that a running process gets, and again when it changes. Safe for
// concurrent use.
type Updates struct {
	mu      sync.Mutex
	latest  []byte
	changed chan struct{} // closed at the next change
	most    int           // bytes of the value
}

// NewUpdates returns Updates with a first value, which is marshalled to JSON.
func NewUpdates(first any) (*Updates, error) {
	u := &Updates{changed: make(chan struct{}), most: maxOrder}
	return u, u.Set(first)
}

// Set changes the value. The process also gets it after a restart. If it fails, as for a value that
// no process would read, nothing changes.
func (u *Updates) Set(value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if len(data) > u.most { // the process would stop reading, and never get a later value either
		return fmt.Errorf("got %d bytes, want at most %d", len(data), u.most)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.latest = data
	close(u.changed)
	u.changed = make(chan struct{})
	return nil
}

func (u *Updates) get() (latest []byte, changed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.latest, u.changed
}

// feed writes the value, and again when it changes, until ended is closed or a write fails.
func (u *Updates) feed(w io.Writer, ended <-chan struct{}) {
	for {
		latest, changed := u.get()
		if _, err := w.Write(frame(latest)); err != nil {
			return
		}
		select {
		case <-ended:
			return
		case <-changed:
		}
	}
}

// readUpdates returns the frames that follow the order. The channel is closed when they end.
func readUpdates(in io.Reader) <-chan []byte {
	updates := make(chan []byte)
	go func() {
		defer close(updates)
		for {
			data, err := readFrame(in)
			if err != nil {
				return
			}
			updates <- data
		}
	}()
	return updates
}

// frame puts the length of data before it: 4 bytes, big endian.
func frame(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

func readFrame(in io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxOrder {
		return nil, fmt.Errorf("got %d bytes, want at most %d", n, maxOrder)
	}
	data := make([]byte, n)
	_, err := io.ReadFull(in, data)
	return data, err
}
