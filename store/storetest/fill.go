package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// fill gives every field of *p a value of its own, found by reflection, so that a
// field added to a record later is tested without anybody thinking of it.
func fill(p any) { fillValue(reflect.ValueOf(p).Elem(), new(int)) }

func fillValue(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(start().Add(time.Duration(*n) * time.Second)))
		return
	case json.RawMessage:
		v.SetBytes(fmt.Appendf(nil, `{"n":%d}`, *n))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fillValue(field, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillValue(v.Index(i), n)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillValue(key, n)
		fillValue(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), n)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanInt() {
			v.SetInt(int64(*n))
		} else {
			v.SetUint(uint64(*n % 256))
		}
	}
}

// spoil overwrites everything that *p points to, but not *p itself: who shares it
// with a store changes what is stored.
func spoil(p any) { spoilValue(reflect.ValueOf(p).Elem(), false) }

func spoilValue(v reflect.Value, shared bool) {
	if _, ok := reflect.TypeAssert[time.Time](v); ok {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			spoilValue(field, shared)
		}
	case reflect.Slice:
		for i := range v.Len() {
			spoilValue(v.Index(i), true)
		}
	case reflect.Map:
		v.Clear()
	case reflect.Pointer:
		if !v.IsNil() {
			spoilValue(v.Elem(), true)
		}
	default:
		if shared {
			v.SetZero()
		}
	}
}
