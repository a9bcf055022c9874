// Package usage says in words of the command what is wrong with a command line. Cobra and
// pflag find it; the words are the same in both programs.
package usage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/internal/strict"
)

// ExitCode is that of a program for a usage error.
const ExitCode = 2

// Error is a command line that is wrong.
type Error struct{ Message, Hint string }

func (e *Error) Error() string { return e.Message }

// Translate makes c and all commands below it return an *Error for a wrong command line.
func Translate(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return flagError(c, err) })
	c.InitDefaultHelpCmd() // or else cobra adds them later, with its own words
	c.InitDefaultCompletionCmd()
	translate(c)
	for _, sub := range c.Commands() {
		if sub.Name() == "help" {
			sub.Args = helpArgs
		}
	}
}

// helpArgs fails unless args name a command. Cobra would print the help of the nearest one above it.
func helpArgs(help *cobra.Command, args []string) error {
	c, rest, err := help.Root().Find(args)
	if err == nil && len(rest) > 0 {
		return noCommand(c, rest[0])
	}
	return err
}

func translate(c *cobra.Command) {
	c.PersistentFlags().VisitAll(refuseEmpty)
	c.Flags().VisitAll(refuseEmpty)
	if c.HasSubCommands() {
		c.InitDefaultHelpFlag()
		help := c.Flags().Lookup("help")
		help.Value = asked{help.Value, c}
	}
	if c.HasSubCommands() && !c.Runnable() { // or else cobra answers by itself
		c.Args = cobra.NoArgs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) != nil {
				return argsError(c, args)
			}
			return nil
		}
	}
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if err := flags(c); err != nil {
			return err
		}
		if before != nil {
			return before(c, args)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		translate(sub)
	}
}

// asked is the value of --help of a command above others. It refuses words before it that are neither a
// command nor arguments of c: cobra would print the help of c, as if that had been asked for.
type asked struct {
	pflag.Value
	c *cobra.Command
}

func (a asked) Set(s string) error {
	if before := a.c.Flags().Args(); len(before) > 0 {
		if err := a.c.ValidateArgs(before); err != nil {
			return err
		}
	}
	return a.Value.Set(s)
}

// errEmpty means that the value of a flag is "".
var errEmpty = errors.New("empty")

// given is a flag's value that must not be set to "". A script that passes the variable of a tag, a
// lock or a policy may have left it unset: the flag would then demand nothing, in silence.
type given struct{ pflag.Value }

func (g given) Set(s string) error {
	if s == "" {
		return errEmpty
	}
	return g.Value.Set(s)
}

// refuseEmpty makes f fail if its value is "". Numbers, durations and booleans fail by themselves.
func refuseEmpty(f *pflag.Flag) {
	if _, done := f.Value.(given); done || wants[f.Value.Type()] != "" {
		return
	}
	f.Value = given{f.Value}
	if f.DefValue == "[]" { // pflag knows only its own types as lists, and would print it
		f.DefValue = ""
	}
}

func fail(c *cobra.Command, format string, args ...any) *Error {
	return &Error{fmt.Sprintf(format, args...), "see " + c.CommandPath() + " --help"}
}

func argsError(c *cobra.Command, args []string) error {
	if c.HasSubCommands() && len(args) > 0 {
		return noCommand(c, args[0])
	}
	_, want, _ := strings.Cut(c.Use, " ")
	want, _, _ = strings.Cut(want, " --")
	found := "nothing"
	if len(args) > 0 {
		found = strings.Join(args, " ")
	}
	if want == "" {
		return fail(c, "%s takes no argument, found %q", c.CommandPath(), found)
	}
	return fail(c, "%s: expected %s, found %s", c.CommandPath(), want, found)
}

// noCommand says that there is no command name below c.
func noCommand(c *cobra.Command, name string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			names = append(names, sub.Name())
		}
	}
	return fail(c, "%s has no command %q%s", c.CommandPath(), name, cmp.Or(suggested(c, name), meant("", name, names)))
}

// suggested suggests the command that does what other programs call name.
func suggested(c *cobra.Command, name string) string {
	for _, sub := range c.Commands() {
		if slices.Contains(sub.SuggestFor, name) {
			return "; did you mean " + sub.Name() + "?"
		}
	}
	return ""
}

// meant suggests the name that somebody meant.
func meant(before, name string, known []string) string {
	if near := strict.Nearest(name, known); near != "" {
		return "; did you mean " + before + near + "?"
	}
	return ""
}

func flagError(c *cobra.Command, err error) error {
	// A mistyped command leaves its flags to the command above. The words before the wrong flag are parsed.
	if before := c.Flags().Args(); c.HasSubCommands() && len(before) > 0 {
		if err := c.ValidateArgs(before); err != nil {
			return err
		}
	}
	unknown, isUnknown := errors.AsType[*pflag.NotExistError](err)
	bare, isBare := errors.AsType[*pflag.ValueRequiredError](err)
	wrong, isWrong := errors.AsType[*pflag.InvalidValueError](err)
	syntax, isSyntax := errors.AsType[*pflag.InvalidSyntaxError](err)
	switch {
	case isUnknown && unknown.GetSpecifiedShortnames() != "": // -json may stand for --json
		return fail(c, "%s has no flag -%s%s", c.CommandPath(), unknown.GetSpecifiedName(), meant("--", unknown.GetSpecifiedShortnames(), names(c)))
	case isUnknown:
		return fail(c, "%s has no flag --%s%s", c.CommandPath(), unknown.GetSpecifiedName(), meant("--", unknown.GetSpecifiedName(), names(c)))
	case isBare:
		return fail(c, "--%s needs a value", bare.GetFlag().Name)
	case errors.Is(err, errEmpty):
		return fail(c, "--%s needs a value, found an empty one", wrong.GetFlag().Name)
	case isWrong:
		return fail(c, "--%s: %s", wrong.GetFlag().Name, wanted(wrong))
	case isSyntax:
		return fail(c, "%s is not a flag", syntax.GetSpecifiedFlag())
	}
	return fail(c, "%v", err)
}

// names returns the names of the flags of c.
func names(c *cobra.Command) (names []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// wants are the values that flags of pflag's own types take.
var wants = map[string]string{"duration": "a duration such as 30s or 5m", "int": "a whole number", "int64": "a whole number", "uint32": "a whole number from 0", "bool": "true or false"}

// wanted says what value a flag takes. A flag with a type of its own says so itself.
func wanted(e *pflag.InvalidValueError) string {
	want := wants[e.GetFlag().Value.Type()]
	if want == "" {
		return errors.Unwrap(e).Error()
	}
	return fmt.Sprintf("expected %s, found %q", want, e.GetValue())
}

// The annotations in which cobra keeps the groups of flags.
const (
	exclusive = "cobra_annotation_mutually_exclusive"
	together  = "cobra_annotation_required_if_others_set"
	oneOf     = "cobra_annotation_one_required"
)

// flags checks what cobra checks later, and says it in other words.
func flags(c *cobra.Command) error {
	if c.ValidateRequiredFlags() != nil {
		var missing []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if slices.Equal(f.Annotations[cobra.BashCompOneRequiredFlag], []string{"true"}) && !f.Changed {
				missing = append(missing, "--"+f.Name)
			}
		})
		verb := "is"
		if len(missing) > 1 {
			verb = "are"
		}
		return fail(c, "%s %s required", strings.Join(missing, " and "), verb)
	}
	err := c.ValidateFlagGroups()
	if err == nil {
		return nil
	}
	var found *Error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		for _, group := range f.Annotations[exclusive] {
			if set, _ := setIn(c, group); found == nil && len(set) > 1 {
				found = fail(c, "%s exclude each other", strings.Join(set, " and "))
			}
		}
		for _, group := range f.Annotations[oneOf] {
			if set, unset := setIn(c, group); found == nil && len(set) == 0 {
				found = fail(c, "%s is required", strings.Join(unset, " or "))
			}
		}
		for _, group := range f.Annotations[together] {
			if set, unset := setIn(c, group); found == nil && len(set) > 0 && len(unset) > 0 {
				found = fail(c, "%s also needs %s", strings.Join(set, " and "), strings.Join(unset, " and "))
			}
		}
	})
	if found == nil {
		return fail(c, "%v", err)
	}
	return found
}

// setIn returns which flags of a group were given, and which were not.
func setIn(c *cobra.Command, group string) (set, unset []string) {
	for name := range strings.FieldsSeq(group) {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			set = append(set, "--"+name)
		} else {
			unset = append(unset, "--"+name)
		}
	}
	return set, unset
}
