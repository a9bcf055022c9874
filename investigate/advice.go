package investigate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/verify"
)

// maxNamed bounds how many names one line of advice lists.
const maxNamed = 8

// advice returns what to do, the most urgent first.
func advice(c *Case, out Conclusion) []string {
	do := []string{}
	add := func(format string, args ...any) { do = append(do, line(fmt.Sprintf(format, args...))) }
	digest := c.Subject.Digest
	if running := stillRunning(c); len(running) > 0 && out.State != Whole {
		add("stop what runs: %s", names(running))
	}
	if scope := c.Subject.scope(); scope != nil && !c.distrusted() {
		add("if it is bad, take trust in it back; with --dry-run first, which says what that stops: %s", distrustCommand(scope...))
	}
	if out.State == Broken {
		if !c.distrusted() {
			add("let nothing run it any more, and pin what runs to a digest that verifies: %s", distrustCommand("--digest", digest))
		}
		switch out.Link {
		case verify.LinkSignature, verify.LinkLog:
			add("find out who may push to the registry: somebody put an image there that no builder you trust has signed")
		case verify.LinkProvenance:
			add("find out who released it: the builder says another source, commit or recipe than you demand; if an identity was stolen, distrust it from the time of the theft on")
			for _, s := range signedOf(c) {
				if s.Signer != "" && s.Issuer != "" {
					add("distrust what it signed from the time of the theft on: %s", distrustCommand("--identity", s.Signer, "--issuer", s.Issuer, "--from", "TIME"))
					break
				}
			}
		case verify.LinkImage:
			add("do not use the bytes that the registry serves: they are not those that were signed")
		case string(AskStanding), string(AskHistory):
			add("ask who changed the ref in the repository, end their sessions and tokens, and protect branches and tags from force-pushes")
			add("compare the commit with the last one that was reviewed, and release again from that")
		case string(AskFetched):
			add("build again with a lock, and keep the bytes of the first build: a download has changed")
		case string(AskSources), verify.LinkSBOM:
			add("do not rely on the SBOM: make one from the image, and compare")
		}
	}
	if len(c.Answer(AskChain).Facts.Others) > 0 {
		add("find out why the same image was built from several commits, and ask about the others too: --commit")
	}
	for _, a := range c.Answers {
		f := a.Facts.Found
		if f == nil || c.Subject.Kind == Image && f.Total <= int64(len(signedOf(c))) {
			continue
		}
		if n, _ := c.count(f); n == 0 {
			continue
		}
		add("look at the %s entries of the log with the %s %s: %s", c.Count(f), f.Kind, f.Value, names(aboutOthers(f, digest)))
	}
	if out.State == Whole {
		add("keep the case; nothing that was asked contradicts the proof")
	}
	if c.Subject.Source == "" && slices.Contains([]Kind{Image, Commit}, c.Subject.Kind) {
		add("ask the repository too: --source URI names it")
	}
	return do
}

// distrusted reports whether a list has an entry about the subject already.
func (c *Case) distrusted() bool {
	listed := c.Answer(AskDistrust).Facts.Distrust
	return listed != nil && len(listed.Entries) > 0
}

// scope returns the flags of distrust add for a subject that is no image; nil for those that an entry cannot be about, and
// for an image, whose broken link says more. Words in capitals are left to a person.
func (s Subject) scope() (flags []string) {
	switch s.Kind {
	case Commit, Base, Package, Fetched:
		flags = []string{"--" + string(s.Kind), s.Name}
	case Builder:
		flags = []string{"--builder", s.Name}
	case Identity:
		flags = []string{"--identity", s.Name, "--issuer", "ISSUER"}
	default:
		return nil
	}
	if s.Kind == Commit && s.Source != "" {
		flags = append(flags, "--source", s.Source)
	}
	if s.Since != nil {
		flags = append(flags, "--from", stamp(*s.Since))
	} else if s.Kind == Builder || s.Kind == Identity { // what it signed before it was taken is good
		flags = append(flags, "--from", "TIME")
	}
	if s.Until != nil {
		flags = append(flags, "--until", stamp(*s.Until))
	}
	return flags
}

// maxCommand is the limit of a command in advice, in bytes: a line that is cut would be another command.
const maxCommand = maxLine - 80

// distrustCommand returns the command that distrusts a scope. What evidence chose is quoted. A value that a line
// cannot show as it is, because it is too long or a terminal would obey it, is left to a person.
func distrustCommand(scope ...string) string {
	words := []string{"colophon", "distrust", "add"}
	for _, w := range append(scope, "--reason", "REASON") {
		words = append(words, printable.ShellWord(w))
	}
	out := strings.Join(words, " ")
	if len(out) > maxCommand || line(out) != out {
		return "colophon distrust add " + scope[0] + " (its value is too long, or has characters that are not shown: it is in the JSON of the case)"
	}
	return out
}

// stillRunning names what runs the subject.
func stillRunning(c *Case) (out []string) {
	for _, r := range c.Answer(AskRunning).Facts.Running {
		if r.Until.IsZero() {
			out = append(out, r.Where)
		}
	}
	return out
}

// aboutOthers returns the digests that entries are about, but one.
func aboutOthers(f *Found, but string) (out []string) {
	for _, e := range f.Entries {
		for _, d := range e.About {
			if d != but && !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out
}

// names lists some names, and says how many more there are.
func names(all []string) string {
	if len(all) == 0 {
		return "what they are about is not known"
	}
	if more := len(all) - maxNamed; more > 0 {
		return strings.Join(all[:maxNamed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(all, ", ")
}
