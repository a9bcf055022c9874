package convert

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"text/scanner"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/policy"
)

// maxFields limits the fields of a CUE policy that is converted.
const maxFields = 64

// simpleCUE returns the values that a CUE policy compares with those of a predicate. ok is false
// if the policy says anything else: only fields whose values are strings, whole numbers,
// booleans and null are read, one way or nested. The statement's predicate type may be compared
// as well, with the one that it has anyway.
//
//	file  = { field }
//	field = name ":" ( field | "{" { field } "}" | value ) [ "," ]
func simpleCUE(text, predicateType string) (values []policy.PredicateDocument, ok bool) {
	if strings.Contains(text, "/*") {
		return nil, false // a comment to the scanner, and none to CUE
	}
	p := &cueParser{ok: true}
	p.scan.Init(strings.NewReader(text))
	p.scan.Mode = scanner.ScanIdents | scanner.ScanInts | scanner.ScanFloats | scanner.ScanStrings | scanner.ScanComments | scanner.SkipComments
	p.scan.Error = func(*scanner.Scanner, string) { p.ok = false }
	p.next()
	for p.ok && p.token != scanner.EOF {
		p.field(nil)
	}
	if !p.ok {
		return nil, false
	}
	seen := map[string]bool{}
	for _, v := range p.values {
		if seen[v.Pointer] {
			return nil, false
		}
		seen[v.Pointer] = true
		rest, inPredicate := strings.CutPrefix(v.Pointer, "/predicate/")
		switch {
		case inPredicate:
			v.Pointer = "/" + rest
			values = append(values, v)
		case v.Pointer != "/predicateType" || v.String == nil || *v.String != predicateType:
			return nil, false
		}
	}
	return values, true
}

type cueParser struct {
	scan   scanner.Scanner
	token  rune
	values []policy.PredicateDocument
	ok     bool
}

func (p *cueParser) next() { p.token = p.scan.Scan() }

// want fails unless the token is as expected, and reads the next one.
func (p *cueParser) want(token rune) {
	p.ok = p.ok && p.token == token
	p.next()
}

func (p *cueParser) field(path []string) {
	name := p.scan.TokenText()
	if p.token == scanner.String {
		name = p.text()
	} else {
		p.ok = p.ok && p.token == scanner.Ident && name != "import" && name != "package" && name != "if" && name != "for" && name != "let"
	}
	p.next()
	p.want(':')
	path = append(path[:len(path):len(path)], strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	switch {
	case !p.ok || len(path) > maxFields || len(p.values) == maxFields:
		p.ok = false
		return
	case p.token == '{':
		p.next()
		p.ok = p.ok && (p.token != '}' || len(path) == 1) // an empty object demands that there is one
		for p.ok && p.token != '}' && p.token != scanner.EOF {
			p.field(path)
		}
		p.want('}')
	case p.token == scanner.String || p.token == scanner.Ident:
		// The name of another field, or a value.
		if p.scan.Peek() == ':' {
			p.field(path)
			return
		}
		p.value(path)
	default:
		p.value(path)
	}
	if p.token == ',' {
		p.next()
	}
}

func (p *cueParser) value(path []string) {
	v := policy.PredicateDocument{Pointer: "/" + strings.Join(path, "/")}
	negative := p.token == '-'
	if negative {
		p.next()
	}
	switch text := p.scan.TokenText(); {
	case p.token == scanner.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		p.ok = p.ok && err == nil && n <= math.MaxInt32 && strconv.FormatInt(n, 10) == text
		if negative {
			n = -n
		}
		v.Integer = &n
	case negative:
		p.ok = false
	case p.token == scanner.String:
		s := p.text()
		v.String = &s
	case text == "true" || text == "false":
		b := text == "true"
		v.Boolean = &b
	case text == "null":
		v.Null = true
	default:
		p.ok = false
	}
	p.values = append(p.values, v)
	p.next()
}

// text returns the string of the token. Escapes, which CUE reads in its own way, are refused.
func (p *cueParser) text() string {
	quoted := p.scan.TokenText()
	if len(quoted) < 2 || strings.ContainsAny(quoted, "\\\n") {
		p.ok = false
		return ""
	}
	return quoted[1 : len(quoted)-1]
}

var regoValue = lazyregexp.New(`^  input\.predicate((?:\[(?:"(?:[^"\\]|\\.)*"|[0-9]+)\])*) == (.+)$`)

// simpleRego returns the values that a Rego policy of the form that this package writes compares
// with those of a predicate. ok is false if the policy has any other form.
func simpleRego(text string) (values []policy.PredicateDocument, ok bool) {
	rest, begins := strings.CutPrefix(text, regoBegin)
	rest, ends := strings.CutSuffix(rest, regoEnd)
	if !begins || !ends {
		return nil, false
	}
	for line := range strings.SplitSeq(rest, "\n") {
		m := regoValue.FindStringSubmatch(line)
		if m == nil {
			return nil, false
		}
		pointer := ""
		for token := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(m[1], "["), "]"), "][") {
			var name string
			if json.Unmarshal([]byte(token), &name) != nil {
				name = token // a number
			}
			pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		}
		v, ok := scalar(m[2])
		if !ok {
			return nil, false
		}
		v.Pointer = pointer
		values = append(values, v)
	}
	// What is written again is the same, or something was misread.
	return values, rego(values) == text
}

// scalar returns a JSON value that is no float, array or object.
func scalar(text string) (v policy.PredicateDocument, ok bool) {
	var s string
	var n int64
	var b bool
	switch raw := []byte(text); {
	case text == "null":
		v.Null = true
	case json.Unmarshal(raw, &s) == nil:
		v.String = &s
	case json.Unmarshal(raw, &n) == nil:
		v.Integer = &n
	case json.Unmarshal(raw, &b) == nil:
		v.Boolean = &b
	default:
		return v, false
	}
	return v, true
}
