package terraform

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// opPlan is the operation of a sample.
const opPlan = "plan"

// Sample asks Terraform what it would make for one node of a pool: the addresses of
// the resources. It makes nothing, and locks no state; but it initialises the
// module and may ask the provider, which needs credentials and the network. An
// error has a class, as that of a node that can't be made, unless the module was
// not accepted. The engine should have a data directory of its own.
func (e *Engine) Sample(ctx context.Context, p broker.Pool) ([]string, error) {
	source, err := e.Prepare(ctx, p)
	if err != nil {
		return nil, err
	}
	p.Source, p.ProviderSharing = source, false
	n := broker.NewNode(p, time.Time{})
	n.Host = sampleHost(p)
	r, err := e.run(n, opPlan)
	if err != nil {
		return nil, err
	}
	r.timeout = p.CreateTimeout
	defer func() { _ = os.RemoveAll(r.dir) }()
	if err := e.look(ctx, r); err != nil {
		return nil, err
	}
	return planned(r.output())
}

// look makes a plan in the directory of r, which is nobody else's.
func (e *Engine) look(ctx context.Context, r run, flags ...string) error {
	if err := e.prepare(r); err != nil {
		return err
	}
	if err := e.start(ctx, r, append([]string{"-lock=false"}, flags...)...); err != nil {
		return err
	}
	if err := e.wait(ctx, r); err != nil {
		if process := e.process(r); process != nil { // it only looks: it can be killed without harm
			_ = syscall.Kill(-process.cmd.Process.Pid, syscall.SIGKILL)
			<-process.done
		}
		return err
	}
	if out := e.outcome(r); out.err != nil {
		return r.failed(&broker.Failure{Class: cmp.Or(out.class, broker.FailureOther), Err: out.err}, nil)
	}
	return nil
}

// planned reads from the output of a plan which resources it would create.
func planned(path string) ([]string, error) {
	f, err := os.Open(path) //nolint:gosec // a file of ours
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var addresses []string
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var o struct {
			Type   string `json:"type"`
			Change struct {
				Resource struct {
					Addr string `json:"addr"`
				} `json:"resource"`
				Action string `json:"action"`
			} `json:"change"`
		}
		if json.Unmarshal(line, &o) == nil && o.Type == "planned_change" && o.Change.Action == "create" {
			addresses = append(addresses, o.Change.Resource.Addr)
		}
		if errors.Is(err, io.EOF) {
			slices.Sort(addresses) // Terraform tells of them in no particular order
			return addresses, nil
		}
		if err != nil {
			return addresses, err
		}
	}
}

// sampleHost stands in for the host of a node that is planned only: nobody knows
// which one it would run on. It has what the pool asks for. nil for a pool that
// draws from no inventory.
func sampleHost(p broker.Pool) *broker.NodeHost {
	if !p.Inventory.Draws() {
		return nil
	}
	return &broker.NodeHost{
		Inventory: p.Inventory.Name, Name: "sample", Hostname: "sample", Address: "192.0.2.1", MAC: "02:00:00:00:00:01",
		BMC: &broker.BMC{Address: "https://192.0.2.2", Kind: "redfish"}, Attributes: p.Inventory.Where,
	}
}
