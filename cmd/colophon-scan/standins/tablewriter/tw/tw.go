// Package tw stands in for github.com/olekukonko/tablewriter/tw.
package tw

type (
	State int // State would be on or off.
	Wrap  int // Wrap would be a way to break lines.
	Align int // Align would be the side at which text begins.
	Style int // Style would be a set of Symbols.
)

const (
	On        State = iota // On is a State.
	Off                    // Off is a State.
	WrapNone  Wrap  = 0    // WrapNone is a Wrap.
	AlignLeft Align = 0    // AlignLeft is an Align.
	StyleNone Style = 0    // StyleNone is a Style.
)

type (
	Symbols    struct{}                                                            // Symbols would draw lines.
	Behavior   struct{ TrimSpace, AutoHide State }                                 // Behavior would be that of a table.
	Padding    struct{ Left, Right, Top, Bottom string }                           // Padding would surround text.
	Border     struct{ Left, Right, Top, Bottom State }                            // Border would surround a table.
	Separators struct{ ShowHeader, ShowFooter, BetweenRows, BetweenColumns State } // Separators would be between cells.
	Lines      struct{ ShowTop, ShowBottom, ShowHeaderLine, ShowFooterLine State } // Lines would be between parts.
	Settings   struct {
		Separators Separators
		Lines      Lines
	} // Settings would be those of a Rendition.
	Rendition struct {
		Symbols  Symbols
		Borders  Border
		Settings Settings
	} // Rendition would be the look of a table.
)

// NewSymbols returns Symbols.
func NewSymbols(Style) Symbols { return Symbols{} }
