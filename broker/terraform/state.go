package terraform

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	stateFile = "terraform.tfstate"
	// erroredFile is where Terraform puts a state that it could not write to
	// its own place.
	erroredFile = "errored.tfstate"

	statePurpose = "terraform-state"
)

// errNoState says that a state file is absent.
var errNoState = errors.New("there is no state file")

// state is what we read of a state file of format version 4.
type state struct {
	raw []byte

	Version   int                    `json:"version"`
	Serial    uint64                 `json:"serial"`
	Lineage   string                 `json:"lineage"`
	Outputs   map[string]stateOutput `json:"outputs"`
	Resources []struct {
		Module    string `json:"module"`
		Mode      string `json:"mode"`
		Type      string `json:"type"`
		Name      string `json:"name"`
		Instances []struct {
			IndexKey            any             `json:"index_key"`
			Attributes          json.RawMessage `json:"attributes"`
			SensitiveAttributes [][]pathStep    `json:"sensitive_attributes"`
		} `json:"instances"`
	} `json:"resources"`
}

type stateOutput struct {
	Value     json.RawMessage `json:"value"`
	Sensitive bool            `json:"sensitive"`
}

func parseState(raw []byte) (*state, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("the state file is empty")
	}
	s := &state{raw: raw}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("the state file can't be read (%d bytes): %w", len(raw), err)
	}
	if s.Version != 4 || s.Lineage == "" {
		return nil, fmt.Errorf("the state file has format version %d and lineage %q: version 4 and a lineage are needed",
			s.Version, s.Lineage)
	}
	return s, nil
}

func readState(path string) (*state, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // a file of ours
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNoState
	case err != nil:
		return nil, err
	}
	return parseState(raw)
}

// newestState reads the state of a run's directory, or the one that Terraform
// could not store there, if that is newer: it puts it beside, and where that
// fails, too, into its output. An error tells what is wrong with the state file;
// errNoState if there is none at all.
func newestState(dir string) (*state, error) {
	s, err := readState(filepath.Join(dir, stateFile))
	if errored, erroredErr := readState(filepath.Join(dir, erroredFile)); erroredErr == nil && !s.newerThan(errored) {
		s, err = errored, nil
	}
	for _, operation := range []string{opApply, opDestroy} {
		dumped := dumpedState(run{dir: dir, operation: operation}.output())
		if dumped != nil && !s.newerThan(dumped) {
			s, err = dumped, nil
		}
	}
	return s, err
}

// dumpMark is in each line of output with a state in it. No other message has a
// member of this name that is an object.
const dumpMark = `"state":{`

// dumpedState gives the state that a run wrote into its output, nil if it wrote
// none, or only a part of one.
func dumpedState(output string) *state {
	text, err := os.ReadFile(output) //nolint:gosec // a file of ours
	if err != nil || !bytes.Contains(text, []byte(dumpMark)) {
		return nil
	}
	var newest *state
	for line := range bytes.Lines(text) {
		var message struct {
			State json.RawMessage `json:"state"`
		}
		if json.Unmarshal(line, &message) != nil || len(message.State) == 0 {
			continue
		}
		if s, err := parseState(message.State); err == nil {
			newest = s
		}
	}
	return newest
}

// newerThan tells whether s is there, and is not to be replaced by other.
func (s *state) newerThan(other *state) bool {
	return s != nil && (s.Lineage != other.Lineage || s.Serial > other.Serial)
}

// resources lists the addresses of what exists, by what the state knows. Data
// sources are nothing that exists.
func (s *state) resources() []string {
	if s == nil {
		return nil
	}
	var addresses []string
	for _, r := range s.Resources {
		if r.Mode != "managed" {
			continue
		}
		address := r.Type + "." + r.Name
		if r.Module != "" {
			address = r.Module + "." + address
		}
		for _, i := range r.Instances {
			switch key := i.IndexKey.(type) {
			case nil:
				addresses = append(addresses, address)
			case string:
				addresses = append(addresses, address+"["+strconv.Quote(key)+"]")
			default:
				addresses = append(addresses, fmt.Sprintf("%s[%v]", address, key))
			}
		}
	}
	return addresses
}

// contractOutputs reads the outputs of the module contract. Sensitive ones count
// as absent: what a node has is shown to its tenant.
func (s *state) contractOutputs() (broker.Outputs, error) {
	var out broker.Outputs
	var port json.RawMessage
	var problems []error
	for _, field := range []struct {
		name, want string
		into       any
	}{
		{"ipaddr", "a string", &out.Address},
		{"hostname", "a string", &out.Hostname},
		{"ssh_user", "a string", &out.SSHUser},
		{"ssh_port", "a number from 1 to 65535", &port},
		{"ssh_host_keys", "a list of strings", &out.HostKeys},
		{"data", "any value", &out.Data},
	} {
		o, ok := s.Outputs[field.name]
		if !ok || o.Sensitive || string(o.Value) == "null" {
			continue
		}
		if json.Unmarshal(o.Value, field.into) != nil {
			problems = append(problems, fmt.Errorf("output %q is not %s", field.name, field.want))
		}
	}
	if port != nil {
		// file() gives a string: a port that was read from one is a port too.
		n, err := strconv.ParseUint(string(bytes.Trim(port, `"`)), 10, 16)
		if err != nil || n == 0 {
			problems = append(problems, errors.New(`output "ssh_port" is not a number from 1 to 65535`))
		}
		out.SSHPort = int(n)
	}
	// The contract's defaults (modules/README.md), so that everybody downstream
	// has the same ones.
	out.SSHUser = cmp.Or(out.SSHUser, "root")
	out.SSHPort = cmp.Or(out.SSHPort, 22)
	if out.Address == "" && len(problems) == 0 {
		problems = append(problems, errors.New(`output "ipaddr" is empty: it must be the node's address, not sensitive`))
	}
	return out, errors.Join(problems...)
}
