package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

const (
	maxAnswer = 32 << 10         // bytes of an answer: signature lines, each of at most 4 KiB
	maxSkew   = 10 * time.Minute // how far the clock of a witness may be ahead
	attempts  = 3                // a witness that names another size each time is not asked forever
)

// Kinds of errors of Client.Add. All others mean that there was no answer.
var (
	// ErrHistory means that the witness has seen a larger tree than the log's, or another tree of
	// the same size. Somebody has shown the witness a history of this log that the log does not
	// know: it was rolled back, or its key is used elsewhere; or the witness lies.
	ErrHistory = errors.New("the witness has seen another history of this log")
	// ErrUnknownLog means that the witness does not cosign this log.
	ErrUnknownLog = errors.New("the witness does not know this log")
	// ErrAnswer means that the witness answered something that a witness does not answer, such
	// as a wrong cosignature.
	ErrAnswer = errors.New("the witness answered wrongly")
)

// Client asks one witness for cosignatures of one log. Not safe for concurrent use.
type Client struct {
	URL  string            // the witness's submission prefix: https, or http on loopback
	Keys []tlog.WitnessKey // of the witness; others of its signatures are ignored
	HTTP *http.Client      // it should have a timeout, and follow no redirects

	old int64 // the size that the witness has seen last, as far as is known
}

// CheckURL fails unless a prefix is https://HOST…, or http and the host is loopback.
func CheckURL(prefix string) error {
	u, err := url.Parse(prefix)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !loopback.OrTLS(u) {
		return fmt.Errorf("got %q, want an https URL (http is allowed only on loopback)", prefix)
	}
	return nil
}

// Add sends a checkpoint that the log signed, and returns the witness's signature lines: those by
// Keys, verified. src has the tiles of the tree, for the proof.
func (c *Client) Add(ctx context.Context, cp tlog.Checkpoint, signed []byte, src tlog.Source) (lines []byte, err error) {
	for range attempts {
		old := min(c.old, cp.Size)
		proof, err := tlog.Consistency(ctx, src, old, cp)
		if err != nil {
			return nil, err
		}
		status, kind, answer, err := c.post(ctx, Request{old, proof, signed}.Marshal())
		if err != nil {
			return nil, err
		}
		switch status {
		case http.StatusOK:
			lines, err := c.verified(signed, answer)
			if err == nil {
				c.old = cp.Size
			}
			return lines, err
		case http.StatusConflict:
			size, err := parseSize(kind, answer)
			if err != nil {
				return nil, err
			}
			if size > cp.Size {
				return nil, fmt.Errorf("%w: it has seen %d entries, the log has %d", ErrHistory, size, cp.Size)
			}
			if size == old {
				return nil, fmt.Errorf("%w: it refused the size %d and named the same", ErrAnswer, old)
			}
			c.old = size
		case http.StatusUnprocessableEntity:
			return nil, fmt.Errorf("%w: it refused the proof that %d entries extend %d: %s", ErrHistory, cp.Size, old, told(answer))
		case http.StatusNotFound:
			return nil, fmt.Errorf("%w: %s", ErrUnknownLog, told(answer))
		case http.StatusForbidden:
			return nil, fmt.Errorf("%w: it has another key for %s: %s", ErrUnknownLog, cp.Origin, told(answer))
		default:
			return nil, fmt.Errorf("got the status %d: %s", status, told(answer))
		}
	}
	return nil, fmt.Errorf("%w: it named another size %d times", ErrAnswer, attempts)
}

func (c *Client) post(ctx context.Context, body []byte) (status int, kind string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+PathAdd, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	answer, err = strict.Read(resp.Body, maxAnswer)
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, err
}

// verified returns those lines of an answer that are cosignatures by the witness's keys.
func (c *Client) verified(signed, answer []byte) ([]byte, error) {
	var lines []byte
	var by []tlog.WitnessKey
	for line := range strings.Lines(string(answer)) {
		if !strings.HasPrefix(line, "— ") || !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("%w: it sent %s, want signature lines", ErrAnswer, told([]byte(line)))
		}
		all, err := tlog.Cosignatures(append(signed[:len(signed):len(signed)], line...), c.Keys, time.Now().Add(maxSkew))
		switch {
		case errors.Is(err, tlog.ErrNoWitness):
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
		case slices.ContainsFunc(by, all[0].Key.Same):
			// Readers of signed notes take 100 signatures: there must be room for other witnesses.
			return nil, fmt.Errorf("%w: it sent two cosignatures by one key of %s", ErrAnswer, all[0].Key.Name())
		default:
			lines, by = append(lines, line...), append(by, all[0].Key)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%w: it sent no cosignature by the key %s", ErrAnswer, c.Keys[0].Name())
	}
	return lines, nil
}

func parseSize(kind string, answer []byte) (int64, error) {
	text := strings.TrimSuffix(string(answer), "\n")
	size, err := strconv.ParseInt(text, 10, 64)
	if kind != SizeType || err != nil || size < 0 || strconv.FormatInt(size, 10)+"\n" != string(answer) {
		return 0, fmt.Errorf("%w: it refused the size, and sent %s in place of the size that it has seen", ErrAnswer, told(answer))
	}
	return size, nil
}

// told returns the beginning of an answer for people.
func told(answer []byte) string {
	return strconv.Quote(printable.Line(string(answer[:min(len(answer), 200)])))
}

// Latest returns the checkpoint that a witness or mirror shows of a log under a monitoring prefix:
// PREFIX/HEX/checkpoint, where HEX is the SHA-256 of the origin. The error matches fs.ErrNotExist if
// it has none.
func Latest(ctx context.Context, client *http.Client, prefix, origin string) ([]byte, error) {
	src := tlog.HTTP{URL: strings.TrimSuffix(prefix, "/") + "/" + OriginHash(origin), Client: client}
	signed, err := src.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s shows no checkpoint of %s: %w", prefix, origin, err)
	}
	return signed, err
}

// OriginHash returns the hex encoding of the SHA-256 of an origin.
func OriginHash(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}
