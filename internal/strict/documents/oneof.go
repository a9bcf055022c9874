package documents

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OneOf fails unless exactly one of the members of an object is set. The error names those that
// are set, and all that may be.
func OneOf(members map[string]bool) error {
	all := slices.Sorted(maps.Keys(members))
	set := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !members[name] })
	if len(set) == 1 {
		return nil
	}
	found := "none"
	if len(set) > 1 {
		found = strings.Join(set, " and ")
	}
	return fmt.Errorf("expected exactly one of %s, found %s", strings.Join(all, ", "), found)
}
