package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// The test binary is also the process that a strategy is measured in, and stands
// in for duffy-broker as the host of shared providers.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "provider-host" {
		if err := provider.Serve(context.Background(), os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == jobArgument {
		if err := serveJob(); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serveJob reads a job from the standard input and writes its figures to the
// standard output.
func serveJob() error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	f, err := j.run(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}
