// Package tablewriter stands in for github.com/olekukonko/tablewriter, with which Syft writes
// tables for terminals. A scan writes SPDX and CycloneDX, so this package has the API that Syft
// uses, and writes no table.
package tablewriter

import (
	"errors"
	"io"

	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

var errNone = errors.New("this program writes no tables")

// Table would be a table.
type Table struct{}

// Option would change a Table.
type Option struct{}

// NewTable returns a Table that cannot be written.
func NewTable(io.Writer, ...Option) *Table { return &Table{} }

// Bulk returns an error.
func (*Table) Bulk(any) error { return errNone }

// Render returns an error.
func (*Table) Render() error { return errNone }

func WithHeader([]string) Option             { return Option{} } // WithHeader changes nothing.
func WithHeaderAutoFormat(tw.State) Option   { return Option{} } // WithHeaderAutoFormat changes nothing.
func WithHeaderAutoWrap(tw.Wrap) Option      { return Option{} } // WithHeaderAutoWrap changes nothing.
func WithHeaderAlignment(tw.Align) Option    { return Option{} } // WithHeaderAlignment changes nothing.
func WithRowAutoFormat(tw.State) Option      { return Option{} } // WithRowAutoFormat changes nothing.
func WithRowAutoWrap(tw.Wrap) Option         { return Option{} } // WithRowAutoWrap changes nothing.
func WithRowAlignment(tw.Align) Option       { return Option{} } // WithRowAlignment changes nothing.
func WithTrimSpace(tw.State) Option          { return Option{} } // WithTrimSpace changes nothing.
func WithAutoHide(tw.State) Option           { return Option{} } // WithAutoHide changes nothing.
func WithRenderer(renderer.Blueprint) Option { return Option{} } // WithRenderer changes nothing.
func WithBehavior(tw.Behavior) Option        { return Option{} } // WithBehavior changes nothing.
func WithPadding(tw.Padding) Option          { return Option{} } // WithPadding changes nothing.
func WithRendition(tw.Rendition) Option      { return Option{} } // WithRendition changes nothing.
