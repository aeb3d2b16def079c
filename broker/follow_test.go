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
