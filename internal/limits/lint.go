package limits

// Caps on a repository that is linted. Sizes are bytes.
const (
	LintFiles    = 250_000   // files of the tree; Linux has 93,000
	LintFile     = 16 << 20  // one file that a checker reads
	LintBytes    = 512 << 20 // all files that checkers read
	LintFindings = 50_000    // findings of one run
)
