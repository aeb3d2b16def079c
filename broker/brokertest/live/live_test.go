package live_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

func TestMain(m *testing.M) { os.Exit(live.Main(m)) }

func TestALocalNodeThroughTheBroker(t *testing.T) {
	b := live.New(t, fmt.Sprintf("pool \"p\" {\n  module     = %q\n  fill_level = 1\n}\n", filepath.Join(providers.Root(t), "modules", "local")))
	b.Start()
	b.Ready("p", 1, time.Minute)
	s := b.Request("p", 1)
	if got := b.SSH(s.Nodes[0], "echo it is me"); got != "it is me\n" {
		t.Errorf("over SSH: %q", got)
	}
	other := s.Nodes[0]
	other.HostKeys = []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWwpzBEltaDhRSsdFSJaHeZ03kfV0lq2P2HNp8bZt5Y"}
	if _, err := b.TrySSH(other, "true"); err == nil || !strings.Contains(err.Error(), "the node shows") {
		t.Errorf("SSH with another host key: %v", err)
	}
	b.Retire(s)
	b.Drain(time.Minute)
	b.Stop()
}
