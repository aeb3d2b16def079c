package ec2

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// SSHNodes gives the functions of a [Config] whose instances are SSH servers of
// modules/local: they trust the keys in their user data and show its host key. Each
// lies in a directory of its own below dir; executable is the duffy-broker binary, or
// what stands in for it. An instance without keys in its user data has no server, and
// an address where nobody answers.
func SSHNodes(dir, executable string) (boot func(context.Context, Instance) (string, error), shutdown func(context.Context, Instance) error) {
	boot = func(ctx context.Context, i Instance) (string, error) {
		data, err := ParseUserData(i.UserData)
		if err != nil {
			return "", err
		}
		if len(data.Keys) == 0 {
			return "192.0.2.1", nil
		}
		node := filepath.Join(dir, i.ID)
		if data.HostKey != "" {
			// A node that has a key keeps it.
			if err := errors.Join(os.MkdirAll(node, 0o700), os.WriteFile(filepath.Join(node, "host_key"), []byte(data.HostKey), 0o600)); err != nil {
				return "", err
			}
		}
		err = localnode.Start(ctx, localnode.Options{Dir: node, UID: i.ID, Hostname: data.Hostname, Keys: data.Keys, Server: localnode.ServerBuiltin, Executable: executable})
		if err != nil {
			return "", err
		}
		address, err := os.ReadFile(filepath.Join(node, "address")) //nolint:gosec // written by the node
		return strings.TrimSpace(string(address)), err
	}
	shutdown = func(ctx context.Context, i Instance) error { return localnode.Stop(ctx, filepath.Join(dir, i.ID)) }
	return boot, shutdown
}
