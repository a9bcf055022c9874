package sums

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/builder"
)

// Wanted returns the sha256 of the modules among a session's downloads whose sums are not
// among the known ones: what the store has for everybody, and a later session could take
// from it. The record is that of the session's gateway; if it lies, sums are computed that
// nobody asks for.
func Wanted(demands []builder.Demand, record []builder.Exchange, known []Sum) (list []string) {
	seen := map[string]bool{}
	for _, s := range known {
		seen[s.SHA256] = true
	}
	if !hasModules(demands) {
		return nil
	}
	for _, e := range record {
		if e.Method == "GET" && e.Status == 200 && IsModule(e.URL) && isSHA256.MatchString(e.SHA256) && !seen[e.SHA256] {
			seen[e.SHA256] = true
			list = append(list, e.SHA256)
		}
	}
	return list
}

func hasModules(demands []builder.Demand) bool {
	for _, d := range demands {
		if IsModule(d.URL) {
			return true
		}
	}
	return false
}

// Serve computes the sums of zips. It reads from in, until its end, the size of each zip in
// decimal, LF, and the zip, and writes its Sum to out, as a line of JSON; an empty one for a
// zip that no module has.
func Serve(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	answers := json.NewEncoder(out)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		} else if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSuffix(line, "\n"), 10, 64)
		if err != nil || size < 0 || size > maxModule {
			return fmt.Errorf("size of a zip: got %.40q, want at most %d", line, maxModule)
		}
		raw := make([]byte, size)
		if _, err := io.ReadFull(r, raw); err != nil {
			return err
		}
		s, err := compute(raw)
		if err != nil {
			s = Sum{}
		}
		if err := answers.Encode(s); err != nil {
			return err
		}
	}
}

// maxAnswer bounds a line that Serve writes, in bytes.
const maxAnswer = 4 << 10

// Ask has a process that runs Serve compute the sums of bodies in a store, and returns them.
// to is its input, which Ask closes, and from its output. The store belongs to gateways, one
// of which may have been taken over: Ask follows no link out of it, sends regular files alone,
// and returns a sum only of the sha256 that it asked for.
func Ask(to io.WriteCloser, from io.Reader, store string, wanted []string) (got []Sum, err error) {
	dir, err := os.OpenRoot(store)
	if err != nil {
		to.Close()
		return nil, err
	}
	defer dir.Close()
	answers := bufio.NewScanner(from)
	answers.Buffer(nil, maxAnswer)
	defer to.Close()
	for _, sum := range wanted {
		switch sent, err := send(to, dir, sum); {
		case err != nil:
			return got, err
		case !sent:
			continue
		}
		if !answers.Scan() {
			return got, errors.Join(errors.New("the process that computes sums has ended"), answers.Err())
		}
		var s Sum
		if err := strict.UnmarshalKnown(answers.Bytes(), maxAnswer, &s); err != nil {
			return got, err
		}
		if s.SHA256 == sum && s.valid() {
			got = append(got, s)
		}
	}
	return got, nil
}

// send sends one body of the store; it reports false if there is none that a module may be.
func send(to io.Writer, store *os.Root, sum string) (bool, error) {
	// Opening a FIFO waits for its writer unless the flag says otherwise.
	f, err := store.OpenFile(path.Join(sum[:2], sum), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxModule {
		return false, nil
	}
	if _, err := fmt.Fprintf(to, "%d\n", info.Size()); err != nil {
		return false, err
	}
	_, err = io.CopyN(to, f, info.Size())
	return err == nil, err
}
