package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManPages: each command and topic that help shows has a page, and no text is markup.
func TestManPages(t *testing.T) {
	root := &cobra.Command{Use: "prog", Short: "do things", Long: ".SH EVIL\n'so it is\nback\\slash"}
	do := &cobra.Command{Use: "do FILE", Short: "do one-thing", Example: "  prog do x", RunE: func(*cobra.Command, []string) error { return nil }}
	do.Flags().StringP("to", "t", "", "`DIR` to write to")
	do.Flags().Bool("secret", false, "")
	_ = do.Flags().MarkHidden("secret")
	root.AddCommand(do, &cobra.Command{Use: "topic", Long: "about it"}, &cobra.Command{Use: "child", Hidden: true, Run: func(*cobra.Command, []string) {}}, NewManCommand(root))
	dir := t.TempDir()
	root.SetArgs([]string{"man", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"prog.1":       {`\&.SH EVIL`, `\&'so it is`, `back\eslash`, `prog\-do(1), `},
		"prog-do.1":    {`.TH "PROG-DO" 1`, `prog\-do \- do one\-thing`, "prog do FILE", `\fB\-t, \-\-to DIR\fR` + "\nDIR to write to", "  prog do x"},
		"prog-topic.1": {"about it"},
	} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		for _, w := range want {
			if err != nil || !strings.Contains(string(raw), w) {
				t.Errorf("%s: got %s, %v, want %q", name, raw, err, w)
			}
		}
		if strings.Contains(string(raw), "secret") {
			t.Errorf("%s has a hidden flag", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "prog-child.1")); err == nil {
		t.Error("a hidden command has a page")
	}
}
