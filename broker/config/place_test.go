package config_test

import (
	"fmt"
	"testing"
)

func TestPlace(t *testing.T) {
	f, diags := loadText(t, `defaults {
  variables = { far = 1, over = 1 }
}
template "t" {
  module      = "./module"
  credentials = { TOKEN = "env:TOKEN" }
  variables = {
    near = 1
    over = 2
  }
}
pool "a" {
  extends   = "t"
  variables = { own = [
    1,
  ] }
}
pool "each" {
  for_each         = { x = 1, y = 2 }
  extends          = "t"
  provider_sharing = true
  variables        = { (each.key) = 1 }
}
pool "merged" {
  extends   = "t"
  variables = merge({ a = 1 }, { b = 2 })
  follow {
    outputs = ["image_id"]
  }
}
`)
	if diags.HasErrors() {
		t.Fatal(messages(t, f, diags))
	}
	tests := []struct {
		pool string
		path []string
		want string // lines and columns
	}{
		{"a", nil, "12:1-12:9"},
		{"a", []string{"module"}, "5:17-5:27"},
		{"a", []string{"credentials"}, "6:17-6:40"},
		{"a", []string{"provider_sharing"}, "12:1-12:9"},
		{"a", []string{"variables"}, "14:15-16:6"},
		{"a", []string{"variables", "own"}, "14:17-16:4"},
		{"a", []string{"variables", "near"}, "8:5-8:13"},
		{"a", []string{"variables", "over"}, "9:5-9:13"},
		{"a", []string{"variables", "far"}, "2:17-2:24"},
		{"a", []string{"variables", "none"}, "12:1-12:9"},
		{"a", []string{"something"}, "12:1-12:9"},
		{"each-x", []string{"variables", "x"}, "22:24-22:38"},
		{"each-x", []string{"variables", "y"}, "18:1-18:12"},
		{"each-y", []string{"variables", "y"}, "22:24-22:38"},
		{"each-y", []string{"provider_sharing"}, "21:22-21:26"},
		{"merged", []string{"variables", "b"}, "26:15-26:42"},
		{"merged", []string{"follow"}, "27:3-27:9"},
		{"none", []string{"module"}, "0:0-0:0"},
	}
	for _, tt := range tests {
		at := f.Place(tt.pool, tt.path...)
		got := fmt.Sprintf("%d:%d-%d:%d", at.Start.Line, at.Start.Column, at.End.Line, at.End.Column)
		if got != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.pool, tt.path, got, tt.want)
		}
	}
	if at := f.FirstLine(f.Place("a", "variables", "own")); at.End.Line != 14 || at.End.Column != 24 {
		t.Errorf("the first line ends at %d:%d", at.End.Line, at.End.Column)
	}
}
