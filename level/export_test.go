package level

// RulesNamed returns the rules of lint that the table and the roadmap name.
func RulesNamed() (out []string) {
	for _, q := range table {
		out = append(out, q.rules...)
	}
	for _, p := range way {
		for _, s := range p.steps {
			out = append(out, s.rules...)
		}
	}
	return append(out, unread...)
}
