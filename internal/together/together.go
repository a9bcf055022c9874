// Package together lets what arrives during a slow write share the next one: a small write to a
// disk takes as long as a large one.
package together

import "context"

// Next waits for a value from c, and returns it with those that wait behind it, at most most. It
// returns nil when ctx is done.
func Next[T any](ctx context.Context, c <-chan T, most int) []T {
	var all []T
	select {
	case v := <-c:
		all = append(all, v)
	case <-ctx.Done():
		return nil
	}
	for len(all) < most {
		select {
		case v := <-c:
			all = append(all, v)
		default:
			return all
		}
	}
	return all
}
