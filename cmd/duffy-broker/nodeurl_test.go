package main

import (
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestNodeURL(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"https://broker.example.org":     "https://broker.example.org",
		"http://192.0.2.1:8080/":         "http://192.0.2.1:8080",
		"http://[2001:db8::1]/duffy//":   "http://[2001:db8::1]/duffy",
		"HTTPS://broker.example.org/a/b": "https://broker.example.org/a/b",
	} {
		if got, err := nodeURL(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"broker.example.org":           "http://",
		"ftp://broker.example.org":     "http://",
		"http://":                      "names no host",
		"http://:80":                   "names no host",
		"http://u:hunter2@example.org": "has a user",
		"http://example.org?a=b":       "has a query",
		"http://example.org?":          "has a query",
		"http://example.org#top":       "or a fragment",
		"http://example.org/a b":       "has a character",
		"http://example.org/$(x)":      "has a character",
		"http://exa mple.org:hunter2":  "is no URL",
	} {
		got, err := nodeURL(in)
		if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %q, %v, want an error with %q", in, got, err, want)
		}
	}
	t.Setenv(nodeURLVariable, "http://192.0.2.1/")
	for flag, want := range map[string]string{"": "http://192.0.2.1", "http://192.0.2.2": "http://192.0.2.2"} {
		if got, err := nodeURL(flag); err != nil || got != want {
			t.Errorf("flag %q with the variable: %q, %v, want %q", flag, got, err, want)
		}
	}
}
