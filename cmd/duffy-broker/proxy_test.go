package main

import (
	"fmt"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestParseProxies(t *testing.T) {
	got, err := parseProxies([]string{"10.0.0.0/8", "192.0.2.7", "10.1.2.3/16", "fd00::/8", "::1"})
	if want := "[10.0.0.0/8 192.0.2.7/32 10.1.0.0/16 fd00::/8 ::1/128]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "proxy.example.net", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.1:80"} {
		if _, err := parseProxies([]string{bad}); broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("%q: %v, want invalid", bad, err)
		}
	}
}
