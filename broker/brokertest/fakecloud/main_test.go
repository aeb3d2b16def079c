package fakecloud_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// The test binary stands in for duffy-broker: it is what SSH servers run.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "local-node" && os.Args[2] == "serve" {
		if err := localnode.Serve(context.Background(), os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// eventually waits for something that takes an unknown time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
