// Package lipgloss stands in for github.com/charmbracelet/lipgloss, with which Syft colours tables.
package lipgloss

// Color would be a colour.
type Color string

// Style would be a style of text.
type Style struct{}

// NewStyle returns a Style.
func NewStyle() Style { return Style{} }

// Foreground changes nothing.
func (s Style) Foreground(Color) Style { return s }

// Render returns the text.
func (Style) Render(text string) string { return text }
