package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Limits on a WitnessPolicy.
const (
	maxWitnessPolicy = 256 << 10 // bytes
	maxPolicyLines   = 64        // of each of log, witness and group
)

// WitnessPolicy says which witnesses there are, and which sets of them are enough
// (c2sp.org/tlog-policy). Sigsum and Tessera read the same format.
type WitnessPolicy struct {
	Logs      []PolicyLog
	Witnesses []PolicyWitness // no two have the same public key

	quorum component
}

// PolicyLog is a log of a WitnessPolicy.
type PolicyLog struct {
	Key note.Verifier // its name is the log's origin
	URL string        // empty if the policy does not have it
}

// PolicyWitness is a witness of a WitnessPolicy.
type PolicyWitness struct {
	Name string // in the policy; Key has the witness's own name
	Key  WitnessKey
	URL  string // prefix of the witness's API for logs; empty if the policy does not have it
}

// component is a witness, or a group that is satisfied by some of its members.
type component struct {
	key     WitnessKey  // of a witness
	members []component // of a group
	atLeast int         // of a group
}

// The text of a policy; items on a line are separated by spaces and tabs:
//
//	"#" ...                                  comment; empty lines are ignored, too
//	"log" vkey [url]
//	"witness" name vkey [url]
//	"group" name ("all" | "any" | k) name...  names of lines above, each in one group at most
//	"quorum" (name | "none")                  exactly once, a name of a line above

// ParseWitnessPolicy reads the text of a policy, of at most 256 KiB.
func ParseWitnessPolicy(text []byte) (*WitnessPolicy, error) {
	if len(text) > maxWitnessPolicy {
		return nil, fmt.Errorf("witness policy: got %d bytes, want at most %d", len(text), maxWitnessPolicy)
	}
	if i := bytes.IndexFunc(text, func(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' || r == 0x7f }); i >= 0 {
		return nil, fmt.Errorf("witness policy contains the control character %q", text[i])
	}
	p := policyParser{known: map[string]component{}, used: map[string]bool{}}
	for i, line := range strings.Split(string(text), "\n") {
		items := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(items) == 0 || strings.HasPrefix(items[0], "#") {
			continue
		}
		if err := p.line(items); err != nil {
			return nil, fmt.Errorf("witness policy, line %d: %w", i+1, err)
		}
	}
	if !p.decided {
		return nil, errors.New("witness policy: got no quorum line, want one")
	}
	return &p.WitnessPolicy, nil
}

type policyParser struct {
	WitnessPolicy
	known   map[string]component // witnesses and groups by name
	used    map[string]bool      // names that are members of a group
	groups  int
	decided bool // there was a quorum line
}

func (p *policyParser) line(items []string) error {
	switch keyword, args := items[0], items[1:]; keyword {
	case "log":
		return p.log(args)
	case "witness":
		return p.witness(args)
	case "group":
		return p.group(args)
	case "quorum":
		return p.quorumLine(args)
	default:
		return fmt.Errorf("got %q, want log, witness, group or quorum", keyword)
	}
}

func (p *policyParser) log(args []string) error {
	if len(args) < 1 || len(args) > 2 || len(p.Logs) == maxPolicyLines {
		return fmt.Errorf("log: got %d items, want a key and perhaps a URL, on at most %d lines", len(args), maxPolicyLines)
	}
	key, err := ParseLogKey(args[0])
	if err != nil {
		return err
	}
	for _, other := range p.Logs {
		if sameKey(other.Key, key) {
			return fmt.Errorf("log: got the key of %s twice", key.Name())
		}
	}
	address, err := policyURL(args[1:])
	p.Logs = append(p.Logs, PolicyLog{key, address})
	return err
}

func (p *policyParser) witness(args []string) error {
	if len(args) < 2 || len(args) > 3 || len(p.Witnesses) == maxPolicyLines {
		return fmt.Errorf("witness: got %d items, want a name, a key and perhaps a URL, on at most %d lines", len(args), maxPolicyLines)
	}
	if err := p.define(args[0]); err != nil {
		return err
	}
	key, err := ParseWitnessKey(args[1])
	if err != nil {
		return err
	}
	for _, other := range p.Witnesses {
		if other.Key.Same(key) {
			return fmt.Errorf("witness %s has the same public key as %s", args[0], other.Name)
		}
	}
	address, err := policyURL(args[2:])
	p.Witnesses = append(p.Witnesses, PolicyWitness{args[0], key, address})
	p.known[args[0]] = component{key: key}
	return err
}

func (p *policyParser) group(args []string) error {
	if len(args) < 3 || p.groups == maxPolicyLines {
		return fmt.Errorf("group: got %d items, want a name, a number and members, on at most %d lines", len(args), maxPolicyLines)
	}
	p.groups++
	name, number, names := args[0], args[1], args[2:]
	if err := p.define(name); err != nil {
		return err
	}
	var g component
	for _, member := range names {
		c, ok := p.known[member]
		switch {
		case !ok:
			return fmt.Errorf("group %s: no line above defines %q", name, member)
		case p.used[member]:
			return fmt.Errorf("group %s: %q is a member of a group already", name, member)
		}
		p.used[member] = true
		g.members = append(g.members, c)
	}
	switch number {
	case "any":
		g.atLeast = 1
	case "all":
		g.atLeast = len(names)
	default:
		k, err := strconv.ParseUint(number, 10, 8)
		if err != nil || strconv.FormatUint(k, 10) != number || k < 1 || int(k) > len(names) {
			return fmt.Errorf("group %s: got %q, want all, any or 1 to %d", name, number, len(names))
		}
		g.atLeast = int(k)
	}
	p.known[name] = g
	return nil
}

func (p *policyParser) quorumLine(args []string) error {
	switch {
	case len(args) != 1:
		return fmt.Errorf("quorum: got %d names, want one", len(args))
	case p.decided:
		return errors.New("quorum: got two lines, want one")
	}
	p.decided = true
	if args[0] == "none" {
		return nil // a group that needs no member
	}
	c, ok := p.known[args[0]]
	if !ok {
		return fmt.Errorf("quorum: no line above defines %q", args[0])
	}
	p.quorum = c
	return nil
}

// define fails if a witness or group cannot have this name. Tessera refuses all the keywords,
// c2sp.org/tlog-policy only "none".
func (p *policyParser) define(name string) error {
	if slices.Contains([]string{"log", "witness", "group", "quorum", "all", "any", "none"}, name) {
		return fmt.Errorf("got the name %q, want one that is no keyword", name)
	}
	if _, ok := p.known[name]; ok {
		return fmt.Errorf("got the name %q twice", name)
	}
	return nil
}

// policyURL returns the URL that is the last item of a line, or "" if it has none.
func policyURL(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	u, err := url.Parse(args[0])
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("got %q, want an http or https URL", args[0])
	}
	return args[0], nil
}

// Enough reports whether these witnesses are a quorum.
func (p *WitnessPolicy) Enough(cosigned []Cosignature) bool { return p.quorum.satisfied(cosigned) }

func (c component) satisfied(by []Cosignature) bool {
	if c.key.Verifier != nil {
		return slices.ContainsFunc(by, func(s Cosignature) bool { return s.Key.Same(c.key) })
	}
	n := 0
	for _, m := range c.members {
		if m.satisfied(by) {
			n++
		}
	}
	return n >= c.atLeast
}

// Keys returns the keys of all witnesses.
func (p *WitnessPolicy) Keys() []WitnessKey {
	keys := make([]WitnessKey, len(p.Witnesses))
	for i, w := range p.Witnesses {
		keys[i] = w.Key
	}
	return keys
}
