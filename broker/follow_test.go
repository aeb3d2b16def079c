package broker

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is seen first counts for nothing, and so does coming back to it.
func TestGenerationOver(t *testing.T) {
	base := "0123456789abcdef01234567"
	seen := func(values map[string]string, more ...map[string]string) Followed {
		f := Followed{Pool: "p"}.See(base, values, time.Time{})
		for _, m := range more {
			f = f.See(base, m, time.Time{})
		}
		return f
	}
	a, b := map[string]string{"image": `"a"`}, map[string]string{"image": `"b"`}
	newer := Pool{Follow: Follow{Outputs: []string{"image"}}, Followed: seen(a, b)}.GenerationOver(base)
	if newer == base || len(newer) != len(base) {
		t.Fatalf("generation with a new value: %q", newer)
	}
	other := Followed{Pool: "p"}.See("another", a, time.Time{}).See("another", b, time.Time{})
	for _, test := range []struct {
		name     string
		outputs  []string
		followed Followed
		want     string
	}{
		{"nothing is followed", nil, seen(a, b), base},
		{"nothing is known", []string{"image"}, Followed{}, base},
		{"the first value", []string{"image"}, seen(a), base},
		{"the first value again", []string{"image"}, seen(a, b, a), base},
		{"a new value", []string{"image"}, seen(a, b), newer},
		{"a new value, seen twice", []string{"image"}, seen(a, b, b), newer},
		{"one more output", []string{"image", "more"}, seen(a, map[string]string{"image": `"a"`, "more": `1`}), base},
		{"values of another module", []string{"image"}, other, base},
		{"this module's after another's", []string{"image"}, other.See(base, a, time.Time{}), base},
	} {
		if got := (Pool{Follow: Follow{Outputs: test.outputs}, Followed: test.followed}).GenerationOver(base); got != test.want {
			t.Errorf("%s: generation %s, want %s", test.name, got, test.want)
		}
	}
}

func TestFollowChange(t *testing.T) {
	old := Followed{Base: "x", Values: map[string]string{"a": `"1"`, "b": `"1"`, "c": "1"}}
	next := old.See("x", map[string]string{"a": `"2"`, "b": `"1"`, "c": "2", "d": "3"}, time.Time{})
	from, to := FollowChange(old, next)
	if diff := cmp.Diff([]string{`a="1" c=1`, `a="2" c=2`}, []string{from, to}); diff != "" {
		t.Error(diff)
	}
	if from, to := FollowChange(Followed{}, next); from != "" || to != "" {
		t.Errorf("the first values are a change: %s, %s", from, to)
	}
}

func TestNextLookup(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := Followed{Base: "x", Values: map[string]string{"a": "1"}, At: at}
	follow := Follow{Outputs: []string{"a"}, Every: time.Hour}
	if got := f.NextLookup(follow, "x"); !got.Equal(at.Add(time.Hour)) {
		t.Errorf("next lookup at %v", got)
	}
	if got := f.NextLookup(follow, "y"); !got.IsZero() {
		t.Errorf("with another module at %v", got)
	}
	follow.Outputs = append(follow.Outputs, "b")
	if got := f.NextLookup(follow, "x"); !got.IsZero() {
		t.Errorf("with another output at %v", got)
	}
}

// Each variant has values of its own, which decide the generation of its nodes only.
func TestFollowedVariants(t *testing.T) {
	see := func(f Followed, base, variant, value string, bases ...string) Followed {
		one := f.See(base, map[string]string{"image": value}, time.Time{})
		one.Variant = variant
		return f.With(one, bases)
	}
	f := see(Followed{Pool: "p"}, "b1", "near", `"a"`, "b1", "b2")
	f = see(f, "b2", "far", `"x"`, "b1", "b2")
	changed := see(f, "b2", "far", `"y"`, "b1", "b2")
	p := Pool{Follow: Follow{Outputs: []string{"image"}}, Followed: changed}
	if one, two := p.GenerationOver("b1"), p.GenerationOver("b2"); one != "b1" || two == "b2" {
		t.Errorf("generations %s and %s, want b1 and another than b2", one, two)
	}
	if from, to := FollowChange(f, changed); from != `far.image="x"` || to != `far.image="y"` {
		t.Errorf("the change is %s -> %s", from, to)
	}
	if got := changed.NextLookup(Follow{Outputs: []string{"image"}, Every: time.Hour}, "b2"); !got.Equal(time.Time{}.Add(time.Hour)) {
		t.Errorf("the next lookup of the second one is %v", got)
	}
	want := []FollowedValue{{Variant: "near", Output: "image", Value: []byte(`"a"`)}, {Variant: "far", Output: "image", Value: []byte(`"y"`), New: true}}
	if diff := cmp.Diff(want, p.FollowedValues()); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}

	// In another order, and under another name, it is the same; what is gone is forgotten.
	turned := see(changed, "b2", "other", `"y"`, "b2", "b1")
	if p.Followed = turned; p.GenerationOver("b2") != (Pool{Follow: p.Follow, Followed: changed}).GenerationOver("b2") || len(turned.Variants()) != 2 {
		t.Errorf("in another order: %+v", turned)
	}
	single := see(changed, "b2", "", `"y"`, "b2")
	if single.Base != "b2" || len(single.Others) != 0 || single.First["image"] != `"x"` {
		t.Errorf("without the first variant: %+v", single)
	}
	if p.Followed = single; p.GenerationOver("b2") == "b2" {
		t.Error("without the first variant the second one's nodes turn stale")
	}
	if f = see(f, "b3", "third", `"z"`, "b3"); f.Of("b1").Base != "" || f.Base != "b3" {
		t.Errorf("of other variants there is left: %+v", f)
	}
}
