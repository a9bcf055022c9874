package documents

import (
	"errors"
	"fmt"
	"strings"
)

// placed is an error about one value of a document.
type placed struct {
	pointer string // JSON pointer to the value, from where the error was found
	err     error
}

func (p *placed) Error() string { return p.err.Error() }
func (p *placed) Unwrap() error { return p.err }

// In says that an error is about the value at a path: names of members and numbers of
// elements. It returns nil for nil.
func In(err error, path ...any) error {
	if err == nil {
		return nil
	}
	var pointer strings.Builder
	for _, token := range path {
		fmt.Fprintf(&pointer, "/%s", strings.NewReplacer("~", "~0", "/", "~1").Replace(fmt.Sprint(token)))
	}
	if inner, ok := err.(*placed); ok {
		return &placed{pointer.String() + inner.pointer, inner.err}
	}
	return &placed{pointer.String(), err}
}

// Where returns the JSON pointer of the value that an error from In is about, or "".
func Where(err error) string {
	if p, ok := errors.AsType[*placed](err); ok {
		return p.pointer
	}
	return ""
}
