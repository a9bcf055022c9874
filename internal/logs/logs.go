// Package logs makes the loggers of a platform's processes. A line about a request says
// which request, and whose.
package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Settings say how a process logs. The zero value is text, from level info.
type Settings struct {
	JSON  bool       `json:"json,omitempty"`
	Level slog.Level `json:"level,omitempty"` // lines below it are left out
}

// Parse reads a format ("text", "json") and a level ("debug", "info", "warn", "error").
func Parse(format, level string) (s Settings, err error) {
	switch format {
	case "text":
	case "json":
		s.JSON = true
	default:
		return s, fmt.Errorf("log format: got %q, want text or json", format)
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	s.Level, err = levels[level], nil
	if _, ok := levels[level]; !ok {
		err = fmt.Errorf("log level: got %q, want debug, info, warn or error", level)
	}
	return s, err
}

// New returns a logger that writes a line of text or JSON to w for each record. Records
// that are logged with the context of a request (With) have its id and actor. URLs in strings and
// errors are logged without credentials (package credential).
func New(w io.Writer, s Settings) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.Level, ReplaceAttr: withoutCredentials}
	if s.JSON {
		return slog.New(handler{slog.NewJSONHandler(w, o)})
	}
	return slog.New(handler{slog.NewTextHandler(w, o)})
}

func withoutCredentials(_ []string, a slog.Attr) slog.Attr {
	var text string
	switch v := a.Value.Any().(type) {
	case string:
		text = v
	case error:
		text = v.Error()
	}
	if strings.Contains(text, "://") {
		a.Value = slog.StringValue(credential.Text(text))
	}
	return a
}

// Library returns a logger for a library that logs by itself. What it calls info interests
// its developers, and is debug here.
func Library(log *slog.Logger) *slog.Logger { return slog.New(library{log.Handler()}) }

type library struct{ slog.Handler }

func lowered(level slog.Level) slog.Level {
	if level < slog.LevelWarn {
		return min(level, slog.LevelDebug)
	}
	return level
}

func (l library) Enabled(ctx context.Context, level slog.Level) bool {
	return l.Handler.Enabled(ctx, lowered(level))
}

func (l library) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = lowered(r.Level); !l.Handler.Enabled(ctx, r.Level) { // klog asks for other levels than it logs
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (l library) WithAttrs(attrs []slog.Attr) slog.Handler {
	return library{l.Handler.WithAttrs(attrs)}
}

func (l library) WithGroup(name string) slog.Handler { return library{l.Handler.WithGroup(name)} }

// A Request is what log lines say about the request that they belong to.
type Request struct {
	ID    string // made by the role api, the same in all roles
	Actor string // the account of its token, "unknown" for another token, or "anonymous"
}

type requestKey struct{}

// With returns a context whose log lines belong to a request.
func With(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// Of returns the request that ctx belongs to, if there is one.
func Of(ctx context.Context) (Request, bool) {
	r, ok := ctx.Value(requestKey{}).(Request)
	return r, ok
}

// handler adds the request of the context to a record.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if of, ok := Of(ctx); ok {
		r.AddAttrs(slog.String("request", of.ID), slog.String("actor", of.Actor))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// Headers in which roles tell each other which request they work for.
const (
	headerID    = "Colophon-Request"
	headerActor = "Colophon-Actor"
)

// valueGrammar is what these headers may say; all else is ignored.
var valueGrammar = lazyregexp.New(`\A[A-Za-z0-9._-]{1,64}\z`)

// Forward sets the headers of a request to another role from its context. It removes what
// somebody else has set there.
func Forward(r *http.Request) {
	r.Header.Del(headerID)
	r.Header.Del(headerActor)
	if of, ok := Of(r.Context()); ok {
		r.Header.Set(headerID, of.ID)
		r.Header.Set(headerActor, of.Actor)
	}
}

// Receive returns a request of another role with the context that its headers give.
func Receive(r *http.Request) *http.Request {
	of := Request{ID: r.Header.Get(headerID), Actor: r.Header.Get(headerActor)}
	if !valueGrammar.MatchString(of.ID) || !valueGrammar.MatchString(of.Actor) {
		return r
	}
	return r.WithContext(With(r.Context(), of))
}
