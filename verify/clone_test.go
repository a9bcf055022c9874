package verify

import (
	"reflect"
	"testing"
)

// TestCloneSharesNothing fails when Verdict grows a field that a copy would
// share with what a Cache keeps.
func TestCloneSharesNothing(t *testing.T) {
	v := &Verdict{}
	for i := range reflect.ValueOf(v).Elem().NumField() {
		f := reflect.ValueOf(v).Elem().Field(i)
		switch f.Kind() {
		case reflect.String, reflect.Int:
		case reflect.Pointer: // Facts are shared, and read-only
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			if f.Type().Elem().Kind() == reflect.String {
				continue
			}
			shared(t, reflect.TypeFor[Verdict]().Field(i).Name, f.Type().Elem())
		default:
			t.Errorf("%s is a %s", reflect.TypeFor[Verdict]().Field(i).Name, f.Kind())
		}
	}
	c := reflect.ValueOf(v.clone()).Elem()
	for i := range c.NumField() {
		if f, was := c.Field(i), reflect.ValueOf(v).Elem().Field(i); f.Kind() == reflect.Slice && (f.Len() != 1 || f.Pointer() == was.Pointer()) {
			t.Errorf("%s is shared with the copy, or not in it", c.Type().Field(i).Name)
		}
	}
}

// shared fails if a copy of a struct would share something with it.
func shared(t *testing.T, name string, of reflect.Type) {
	t.Helper()
	for _, e := range reflect.VisibleFields(of) {
		switch k := e.Type.Kind(); k {
		case reflect.String, reflect.Int, reflect.Bool:
		case reflect.Struct:
			shared(t, name+"."+e.Name, e.Type)
		default:
			t.Errorf("%s has elements with %s, which is a %s", name, e.Name, k)
		}
	}
}
