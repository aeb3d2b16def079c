package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// Story 14: a cloud that lets few calls through meets a pool that wants many
// nodes. With an account whose rate is below the cloud's nothing is throttled;
// without one the same cloud refuses creates.
func TestStory14Throttled(t *testing.T) {
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/module")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	// The burst is larger than the account's: runs that start evenly need not
	// reach the cloud evenly, on a busy machine.
	limits := fakecloud.Faults{RateLimit: 2, Burst: 12}
	pools := func(c *fakecloud.Cloud, account string, fill int) string {
		return fmt.Sprintf(`
account "cloud" {
  rate_limit = "96/m"
  burst      = 3
}
reload { confirm_above = 1 }
pool "many" {
  module        = %q
  account       = %q
  fill_level    = %d
  max_nodes     = 60
  concurrency   = 60
  contextualize = "none"
  variables     = { endpoint = %q }
}
`, module, account, fill, c.URL())
	}

	t.Run("with an account", func(t *testing.T) {
		c := fakecloud.Start(t, fakecloud.Config{Faults: limits})
		s := newServer(t, pools(c, "cloud", 30))
		s.start()
		s.full(3 * time.Minute)
		if strings.Contains(s.log.String(), "Throttled: ") {
			t.Error("the cloud refused creates, though they start more slowly than it lets them through")
		}
		if made, calls := len(c.Instances()), c.Calls(fakecloud.Create); made != 30 || calls != 30 {
			t.Errorf("%d instances exist after %d calls, want 30 after as many", made, calls)
		}
		s.stop()
	})
	t.Run("without", func(t *testing.T) {
		c := fakecloud.Start(t, fakecloud.Config{Faults: limits})
		s := newServer(t, pools(c, "", 60))
		s.start()
		s.eventually("creates are throttled", time.Minute, func() error {
			if !strings.Contains(s.log.String(), "Throttled: ") {
				return fmt.Errorf("none yet, %d instances", len(c.Instances()))
			}
			return nil
		})
		c.SetFaults(fakecloud.Faults{})
		s.writePools(pools(c, "", 0))
		s.reload()
		s.full(3 * time.Minute)
		s.stop()
		if left := c.Instances(); len(left) > 0 {
			t.Errorf("%d instances are left", len(left))
		}
	})
}
