package contract

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Exchange is one request and its answer. A recording has one as JSON in each
// line, in the order in which they were made: state builds up.
type Exchange struct {
	N      int    `json:"n"`
	Case   string `json:"case"` // the same request has the same name in all recordings
	Method string `json:"method"`
	Path   string `json:"path"` // with the query
	// Auth is who asks: a tenant of the [Seed], "anonymous", or a way of getting
	// it wrong.
	Auth        string            `json:"auth"`
	Sent        map[string]string `json:"request_headers,omitempty"`
	RequestBody json.RawMessage   `json:"request_body,omitempty"`
	RequestRaw  string            `json:"request_raw,omitempty"` // a body that is no JSON

	Status int `json:"status"`
	// Headers has content-type, www-authenticate, allow, location (with {base} for
	// the server's URL) and retry-after, as far as they are there.
	Headers      map[string]string `json:"headers"`
	HasRequestID bool              `json:"has_x_request_id"`
	Body         json.RawMessage   `json:"body,omitempty"`
	Text         *string           `json:"body_text,omitempty"` // a body that is no JSON
	Note         string            `json:"note,omitempty"`
}

// Part is one recording.
type Part string

// The recordings. They are replayed in this order; context_fail needs a server
// of its own, whose nodes refuse SSH.
const (
	V1          Part = "v1"           // Duffy v3's API
	Legacy      Part = "legacy"       // Duffy v2's API as Duffy v3 has it, after v1 on the same server
	ContextFail Part = "context_fail" // v3's API when nodes refuse SSH
)

// Parts is all recordings.
func Parts() []Part { return []Part{V1, Legacy, ContextFail} }

//go:embed testdata
var files embed.FS

// Recorded gives the recording of a part.
func Recorded(p Part) ([]Exchange, error) {
	text, err := files.ReadFile("testdata/" + string(p) + ".jsonl")
	if err != nil {
		return nil, fmt.Errorf("there is no recording %q: there are v1, legacy and context_fail", p)
	}
	return Read(bytes.NewReader(text))
}

// Read reads a recording.
func Read(r io.Reader) ([]Exchange, error) {
	var list []Exchange
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e Exchange
			if wrong := json.Unmarshal(line, &e); wrong != nil {
				return nil, fmt.Errorf("line %d of the recording: %w", number, wrong)
			}
			list = append(list, e)
		}
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Write writes a recording.
func Write(w io.Writer, list []Exchange) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, e := range list {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// Seed is what a server must have before a replay.
type Seed struct {
	Tenants []SeedTenant `json:"tenants"`
	// Pools have so many ready nodes. Their fill levels stand in the answer of the
	// case pools.list.
	Pools []SeedPool `json:"pools"`
}

// SeedTenant is a tenant of a [Seed]. Its legacy key is its API key.
type SeedTenant struct {
	ID      int64  `json:"id"` // in the recordings
	Name    string `json:"name"`
	APIKey  string `json:"api_key"`
	Active  bool   `json:"active"`
	IsAdmin bool   `json:"is_admin"`
	SSHKey  string `json:"ssh_key"`
	Quota   *int   `json:"node_quota"` // nil: the default, which is 10
}

// SeedPool is a pool of a [Seed].
type SeedPool struct {
	Name  string `json:"name"`
	Ready int    `json:"ready"`
}

// RecordedSeed gives what Duffy had when the recordings were made.
func RecordedSeed() (Seed, error) {
	text, err := files.ReadFile("testdata/seed.json")
	if err != nil {
		return Seed{}, err
	}
	return ReadSeed(bytes.NewReader(text))
}

// ReadSeed reads a seed. The same tenants may have other keys in it.
func ReadSeed(r io.Reader) (Seed, error) {
	var s Seed
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return Seed{}, fmt.Errorf("seed: %w", err)
	}
	return s, nil
}

// tenant gives a tenant by its name.
func (s Seed) tenant(name string) (SeedTenant, bool) {
	for _, t := range s.Tenants {
		if t.Name == name {
			return t, true
		}
	}
	return SeedTenant{}, false
}

// isCase tells whether the name of a case fits one of some patterns: names, or
// their beginnings with a * behind.
func isCase(name string, patterns ...string) bool {
	for _, p := range patterns {
		if before, open := strings.CutSuffix(p, "*"); name == p || open && strings.HasPrefix(name, before) {
			return true
		}
	}
	return false
}
