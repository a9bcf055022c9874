// Package renderer stands in for github.com/olekukonko/tablewriter/renderer.
package renderer

// Blueprint would draw a table.
type Blueprint struct{}

// NewBlueprint returns a Blueprint.
func NewBlueprint() Blueprint { return Blueprint{} }
