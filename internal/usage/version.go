package usage

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// Version returns the line that says which version of a program this is.
func Version(program, version string) string {
	return fmt.Sprintf("%s %s %s %s/%s\n", program, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// AddVersion adds --version, which most programs have, and which prints what the command
// version prints.
func AddVersion(root *cobra.Command, version string) {
	root.Flags().Bool("version", false, "print the version") // else cobra adds -v, too
	root.Version = version
	root.SetVersionTemplate(Version(root.Name(), version))
}
