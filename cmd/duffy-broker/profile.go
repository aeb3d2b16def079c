package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/ssh"
)

// profile is what a client needs to talk to one broker: a 0600 file of its own
// in the user's configuration directory, named by the broker's id, so that
// brokers never disturb each other's.
type profile struct {
	URL     string                   `yaml:"url"`
	Tenant  string                   `yaml:"tenant"` // who the client is unless told otherwise
	Tenants map[string]profileTenant `yaml:"tenants"`

	path string
}

type profileTenant struct {
	APIKey string `yaml:"api_key"`
	SSHKey string `yaml:"ssh_key"` // path of the private key
}

// profilesDir is where the profiles live.
func profilesDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the user's configuration directory: %w", err)
	}
	return filepath.Join(dir, "duffy-broker"), nil
}

func profilePath(brokerID string) (string, error) {
	dir, err := profilesDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, brokerID+".yaml"), nil
}

func readProfile(path string) (profile, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the user's own file
	if err != nil {
		return profile{}, broker.Wrap(broker.CodeInvalid, err, "the client profile can't be read").
			WithHint("mend its permissions, or name the broker with --url, --auth-name and --auth-key")
	}
	p := profile{path: path}
	if err := yaml.Unmarshal(text, &p); err != nil {
		return profile{}, broker.Wrap(broker.CodeInvalid, err, "the client profile %s is not valid YAML", path).
			WithHint("mend it, or move it away: the broker writes a new one at its first start only")
	}
	return p, nil
}

// profileIDs gives the ids of the brokers that have a profile here.
func profileIDs() (ids []string) {
	dir, err := profilesDir()
	if err != nil {
		return nil
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
	for _, path := range paths {
		ids = append(ids, strings.TrimSuffix(filepath.Base(path), ".yaml"))
	}
	return ids
}

// write replaces the file in one step.
func (p profile) write(path string) error {
	text, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	return writePrivate(path, text)
}

// writePrivate replaces a 0600 file in one step; its directory is made 0700.
func writePrivate(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".*.tmp") // 0600 by itself
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already, if all went well
	if _, err := tmp.Write(text); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Sync(); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// newestProfile gives the profile of the broker that was started last.
func newestProfile() (profile, error) {
	dir, err := profilesDir()
	if err != nil {
		return profile{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return profile{}, fmt.Errorf("list the client profiles: %w", err)
	}
	var newest string
	var at time.Time
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), ".yaml") || !info.ModTime().After(at) {
			continue
		}
		newest, at = filepath.Join(dir, e.Name()), info.ModTime()
	}
	if newest == "" {
		return profile{}, nil
	}
	return readProfile(newest)
}

// newTenants makes the tenants of a first start, and a profile that holds their
// keys.
func newTenants(brokerID, url string) ([]broker.NewTenant, profile, error) {
	path, err := profilePath(brokerID)
	if err != nil {
		return nil, profile{}, err
	}
	keyPath := strings.TrimSuffix(path, ".yaml") + "_ed25519"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, profile{}, err
	}
	_, public, err := ssh.LoadOrCreateKey(keyPath)
	if err != nil {
		return nil, profile{}, err
	}
	p := profile{URL: url, Tenant: "demo", Tenants: make(map[string]profileTenant), path: path}
	var tenants []broker.NewTenant
	for _, t := range []broker.Tenant{{Name: "admin", IsAdmin: true}, {Name: "demo"}} {
		t.SSHKey = public
		created := broker.NewTenant{Tenant: t, APIKey: broker.NewUUID()}
		tenants = append(tenants, created)
		p.Tenants[t.Name] = profileTenant{APIKey: created.APIKey, SSHKey: keyPath}
	}
	return tenants, p, nil
}
