package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal of 80 columns, and what it shows.
type terminal struct {
	*os.File // what the command writes to

	mu     sync.Mutex
	t      *testing.T
	rows   [][]rune
	x, y   int
	height int
	nowrap bool
	raw    strings.Builder
	seen   strings.Builder // every screen that there was
	end    chan struct{}
	master *os.File
}

const terminalWidth = 80

func newTerminal(t *testing.T, height int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: terminalWidth})
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	s := &terminal{File: f, t: t, height: height, end: make(chan struct{}), master: master}
	go s.read()
	t.Cleanup(func() { s.stop(); master.Close() })
	return s
}

// stop returns the last screen.
func (s *terminal) stop() string {
	s.File.Close()
	<-s.end
	return s.screen()
}

func (s *terminal) screen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text()
}

// everSeen returns all screens that there were.
func (s *terminal) everSeen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

func (s *terminal) text() string {
	var out strings.Builder
	for _, row := range s.rows {
		out.WriteString(strings.TrimRight(string(row), " ") + "\n")
	}
	return out.String()
}

func (s *terminal) read() {
	defer close(s.end)
	buf := make([]byte, 64<<10)
	var rest []byte
	for {
		n, err := s.master.Read(buf)
		if err != nil { // all have closed the other end
			return
		}
		rest = append(rest, buf[:n]...)
		s.mu.Lock()
		s.raw.Write(buf[:n])
		rest = s.take(rest)
		s.seen.WriteString(s.text() + "\f")
		s.mu.Unlock()
	}
}

// take shows what is whole of text, and returns the rest.
func (s *terminal) take(text []byte) []byte {
	for len(text) > 0 {
		r, size := rune(text[0]), 1
		if r >= 0x80 {
			for size < len(text) && text[size]&0xc0 == 0x80 {
				size++
			}
			if size == len(text) && size < 4 && len([]rune(string(text))) != 1 {
				return text
			}
			r = []rune(string(text[:size]))[0]
		}
		if r == 0x1b {
			i := strings.IndexFunc(string(text[min(2, len(text)):]), func(r rune) bool { return r >= '@' && r <= '~' })
			if i < 0 {
				return text
			}
			s.control(string(text[2:2+i]), text[2+i])
			text = text[i+3:]
			continue
		}
		s.put(r)
		text = text[size:]
	}
	return nil
}

func (s *terminal) control(arg string, what byte) {
	switch what {
	case 'A':
		var n int
		fmt.Sscan(arg, &n)
		s.y = max(0, len(s.rows)-s.height, s.y-n) // what has left the screen stays
	case 'J':
		s.rows = s.rows[:min(len(s.rows), s.y)]
	case 'K', 'm':
	case 'h', 'l':
		if arg != "?7" {
			s.t.Errorf("got the mode %q", arg)
		}
		s.nowrap = what == 'l'
	default:
		s.t.Errorf("got the control sequence %q%c", arg, what)
	}
}

func (s *terminal) put(r rune) {
	switch r {
	case '\r':
		s.x = 0
		return
	case '\n':
		s.x, s.y = 0, s.y+1
		return
	}
	if s.x >= terminalWidth {
		if s.nowrap {
			return
		}
		s.x, s.y = 0, s.y+1
	}
	for len(s.rows) <= s.y {
		s.rows = append(s.rows, nil)
	}
	for len(s.rows[s.y]) <= s.x {
		s.rows[s.y] = append(s.rows[s.y], ' ')
	}
	s.rows[s.y][s.x] = r
	s.x++
}
