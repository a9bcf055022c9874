package strict

import "strings"

// Nearest returns the known name that somebody most likely meant by a name that is not
// known, or "" if none is close: it differs by one letter in three at most, where an added,
// missing, other or swapped letter counts once, and case counts nothing. If none is close, and one known
// name alone begins with name, Nearest returns that.
func Nearest(name string, known []string) (nearest string) {
	most := max(1, (len(name)+1)/3)
	for _, k := range known {
		if n := distance(strings.ToLower(name), strings.ToLower(k)); n <= most {
			nearest, most = k, n-1
		}
	}
	if nearest != "" || len(name) < minPrefix {
		return nearest
	}
	for _, k := range known {
		switch {
		case !strings.HasPrefix(strings.ToLower(k), strings.ToLower(name)):
		case nearest != "":
			return "" // which one?
		default:
			nearest = k
		}
	}
	return nearest
}

// distance returns the restricted Damerau-Levenshtein distance of two names in bytes.
func distance(a, b string) int {
	if len(a) > maxCompared || len(b) > maxCompared {
		return len(a) + len(b)
	}
	row := func() []int { return make([]int, len(b)+1) }
	before, last, now := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

// minPrefix is the length from which a beginning stands for the only name that begins with it, in bytes.
const minPrefix = 3

// maxCompared bounds the names that are compared, in bytes.
const maxCompared = 64
