package api

import (
	"reflect"
	"strings"
	"testing"
)

// TestBoundedKeepsTheError: an event is cut, and no member of its error is lost.
func TestBoundedKeepsTheError(t *testing.T) {
	whole := &Error{Message: "lock: wrong", Hint: "write one", Kind: Usage, Member: "lock"}
	fields := reflect.ValueOf(*whole)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the test has no %s", fields.Type().Field(i).Name)
		}
	}
	if got := (Event{Error: whole}).Bounded().Error; *got != *whole {
		t.Errorf("got %+v, want %+v", got, whole)
	}
	long := &Error{Message: strings.Repeat("x", maxText+1)}
	if got := (Event{Error: long}).Bounded().Error; len(got.Message) > maxText+10 || len(long.Message) != maxText+1 {
		t.Errorf("got %d bytes, and the event has %d", len(got.Message), len(long.Message))
	}
}
