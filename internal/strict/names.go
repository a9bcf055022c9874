package strict

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
)

// differInCase reports whether a member in data may have one of the names in another
// spelling. It is quick, where decoding a second time would double the time of every
// document. It looks at all members, whatever object they are in.
func differInCase(data []byte, known *names) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '"' {
			continue
		}
		n := endOfString(data[i+1:])
		s := data[i+1 : i+1+n]
		i += n + 1
		if rest := bytes.TrimLeft(data[min(i+1, len(data)):], " \t\r\n"); len(rest) == 0 || rest[0] != ':' {
			continue // a value
		}
		if known.exact[string(s)] {
			continue
		}
		if folded, ok := fold(s); !ok || known.folded[folded] {
			return true
		}
	}
	return false
}

// fold returns what readers that ignore the case see in a member's name: letters in
// lower case, without "_" and "-". It fails for names with escapes and letters that are
// not ASCII, of which readers have more than one opinion.
func fold(name []byte) (string, bool) {
	folded := make([]byte, 0, 64)
	for _, c := range name {
		switch {
		case c == '\\' || c >= 0x80:
			return "", false
		case c == '_' || c == '-':
		case 'A' <= c && c <= 'Z':
			folded = append(folded, c+'a'-'A')
		default:
			folded = append(folded, c)
		}
	}
	return string(folded), true
}

// names are those of all members that a type and the types in it have fields for.
type names struct {
	exact, folded map[string]bool
}

var cachedNames sync.Map // from reflect.Type to *names

func namesOf(t reflect.Type) *names {
	if n, ok := cachedNames.Load(t); ok {
		return n.(*names)
	}
	n := &names{exact: map[string]bool{}, folded: map[string]bool{}}
	n.add(t, map[reflect.Type]bool{})
	cachedNames.Store(t, n)
	return n
}

func (n *names) add(t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		n.add(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				name = f.Name
			}
			n.exact[name] = true
			folded, _ := fold([]byte(name))
			n.folded[folded] = true
			n.add(f.Type, seen)
		}
	}
}
