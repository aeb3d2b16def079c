package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func newTenantCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "Manage tenants, as an admin",
		Long: "Manage tenants, each named by its name or id: a number is an id if there is such a tenant, else a name. All but looking at\n" +
			"oneself needs the key of an admin; settings come from where `client` finds them. Without a name it is the admin of the\n" +
			"broker's profile who asks.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	o.addDataDirFlags(cmd)
	cmd.PersistentFlags().StringVar(&o.pools, "pools", "", "with --data-dir: `file` whose tenant_defaults count (default: those of Duffy)")
	list := simpleCommand(s, &o, "list", "List all tenants", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
			a, err := c.Tenants(ctx)
			return a.Raw, err
		})
	list.Example = "  duffy-broker tenant list"
	cmd.AddCommand(
		list,
		tenantCommand(s, &o, "show", "Show all that is known of a tenant",
			func(ctx context.Context, c *client.Client, id int64) (json.RawMessage, error) {
				a, err := c.Tenant(ctx, id)
				return a.Raw, err
			}),
		newTenantCreateCommand(s, &o),
		newTenantUpdateCommand(s, &o),
		tenantCommand(s, &o, "retire", "Shut a tenant out, and end its sessions", setTenantActive(false)),
		tenantCommand(s, &o, "unretire", "Let a retired tenant in again, with the key that it had", setTenantActive(true)),
		newTenantResetKeyCommand(s, &o),
	)
	legacy := &cobra.Command{Use: "legacy-key", Short: "Add and remove keys of the legacy API, as `legacy key` does", RunE: group, SuggestionsMinimumDistance: 2}
	addLegacyKeyCommands(s, &o, legacy, "duffy-broker tenant legacy-key")
	cmd.AddCommand(legacy)
	return cmd
}

// tenantCommand is a command about one tenant.
func tenantCommand(s streams, o *clientOptions, name, short string, ask func(context.Context, *client.Client, int64) (json.RawMessage, error)) *cobra.Command {
	cmd := simpleCommand(s, o, name+" TENANT", short, cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := c.FindTenant(ctx, args[0])
			if err != nil {
				return nil, err
			}
			return ask(ctx, c, id)
		})
	cmd.Example = "  duffy-broker tenant " + name + " demo"
	return cmd
}

func setTenantActive(active bool) func(context.Context, *client.Client, int64) (json.RawMessage, error) {
	return func(ctx context.Context, c *client.Client, id int64) (json.RawMessage, error) {
		a, err := c.UpdateTenant(ctx, id, client.TenantUpdate{Active: &active})
		return a.Raw, err
	}
}

// tenantFlags are the settings of a tenant that can be given and changed.
type tenantFlags struct {
	sshKey, quota, lifetime, lifetimeMax string
}

func (f *tenantFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.sshKey, "ssh-key", "", "`file` with its public SSH keys, a line each; - is standard input")
	flags.StringVar(&f.quota, "quota", "", "`number` of nodes that it may have at once, or default")
	flags.StringVar(&f.lifetime, "lifetime", "", "`duration` of its sessions, such as 6h or \"1d 2h\", or default")
	flags.StringVar(&f.lifetimeMax, "lifetime-max", "", "longest `duration` to which its sessions can be extended, or default")
}

// update reads the flags that were given.
func (f *tenantFlags) update(cmd *cobra.Command, in io.Reader) (u client.TenantUpdate, err error) {
	given := cmd.Flags().Changed
	if given("ssh-key") {
		if u.SSHKey, err = readSSHKeys(f.sshKey, in); err != nil {
			return u, err
		}
	}
	if given("quota") {
		if u.NodeQuota, err = parseQuota(f.quota); err != nil {
			return u, err
		}
	}
	if given("lifetime") {
		u.SessionLifetime = orDefault(f.lifetime)
	}
	if given("lifetime-max") {
		u.SessionLifetimeMax = orDefault(f.lifetimeMax)
	}
	return u, nil
}

// defaultWord stands for a setting that the broker's configuration decides.
const defaultWord = "default"

func orDefault(text string) client.Override[string] {
	if text == defaultWord {
		return client.Override[string]{Set: true}
	}
	return client.Override[string]{Set: true, Value: &text}
}

func parseQuota(text string) (client.Override[int], error) {
	if text == defaultWord {
		return client.Override[int]{Set: true}, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return client.Override[int]{}, broker.Errorf(broker.CodeInvalid, "quota %q is not a number of nodes", text).WithHint("write a whole number, or %s", defaultWord)
	}
	return client.Override[int]{Set: true, Value: &n}, nil
}

// maxSSHKeys bounds what is read as public keys, in bytes: some thousand keys.
const maxSSHKeys = 512 << 10

// readSSHKeys reads public keys, a line each. A private key is refused.
func readSSHKeys(path string, in io.Reader) (*string, error) {
	name := path
	if path == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(path) //nolint:gosec // the user's own file
		if err != nil {
			return nil, broker.Errorf(broker.CodeInvalid, "the SSH key can't be read: %v", err).
				WithHint("name a file with public keys, such as ~/.ssh/id_ed25519.pub, or - for standard input")
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSSHKeys+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	text := strings.TrimSpace(string(b))
	switch {
	case text == "":
		return nil, broker.Errorf(broker.CodeInvalid, "%s holds no SSH key", name).WithHint("it must hold public keys, a line each")
	case len(b) > maxSSHKeys:
		return nil, broker.Errorf(broker.CodeInvalid, "%s holds more than %d bytes", name, maxSSHKeys).WithHint("it must hold public keys, a line each")
	case strings.Contains(text, "PRIVATE KEY"):
		return nil, broker.Errorf(broker.CodeInvalid, "%s holds a private key", name).WithHint("name the file with the public one, mostly %s.pub", path)
	}
	return &text, nil
}

func newTenantCreateCommand(s streams, o *clientOptions) *cobra.Command {
	var f tenantFlags
	var admin bool
	var cmd *cobra.Command
	cmd = simpleCommand(s, o, "create NAME", "Make a tenant, and show its API key this once", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			given, err := f.update(cmd, s.in)
			if err != nil {
				return nil, err
			}
			if given.SSHKey == nil {
				return nil, broker.Errorf(broker.CodeInvalid, "a tenant needs an SSH key, which opens its nodes").
					WithHint("add --ssh-key FILE with the public key, or --ssh-key - to read it from standard input")
			}
			a, err := c.CreateTenant(ctx, v1.TenantCreate{
				Name: args[0], IsAdmin: admin, SSHKey: *given.SSHKey, NodeQuota: given.NodeQuota.Value,
				SessionLifetime: given.SessionLifetime.Value, SessionLifetimeMax: given.SessionLifetimeMax.Value,
			})
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker tenant create storage --ssh-key ~/.ssh/id_ed25519.pub --quota 20\n" +
		"  ssh-add -L | duffy-broker tenant create storage --ssh-key - --lifetime 4h --lifetime-max '1d 12h'"
	f.add(cmd)
	cmd.Flags().BoolVar(&admin, "admin", false, "it may do everything, and see what belongs to others")
	return cmd
}

func newTenantUpdateCommand(s streams, o *clientOptions) *cobra.Command {
	var f tenantFlags
	var resetKey bool
	var cmd *cobra.Command
	cmd = simpleCommand(s, o, "update TENANT", "Change the SSH keys, the quota, the lifetimes or the API key of a tenant", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			u, err := f.update(cmd, s.in)
			if err != nil {
				return nil, err
			}
			if resetKey {
				u.APIKey = "reset"
			}
			if u == (client.TenantUpdate{}) {
				return nil, broker.Errorf(broker.CodeInvalid, "nothing is to be changed").
					WithHint("give one of --ssh-key, --quota, --lifetime, --lifetime-max and --reset-key")
			}
			id, err := c.FindTenant(ctx, args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.UpdateTenant(ctx, id, u)
			return a.Raw, err
		})
	cmd.Long = "Change the SSH keys, the quota, the lifetimes or the API key of a tenant; what is not given stays. `default` takes a setting back:\n" +
		"the broker's configuration decides then. Sessions that exist keep their end and their keys.\n\n" +
		"--reset-key is `tenant reset-key`. With --data-dir it needs no key: that is the way back in when the admin's is lost."
	cmd.Example = "  duffy-broker tenant update demo --quota 40 --lifetime default\n" +
		"  duffy-broker tenant update demo --ssh-key keys.pub\n" +
		"  duffy-broker tenant update admin --reset-key --data-dir data"
	f.add(cmd)
	cmd.Flags().BoolVar(&resetKey, "reset-key", false, "give it a new API key, and show it this once")
	return cmd
}

func newTenantResetKeyCommand(s streams, o *clientOptions) *cobra.Command {
	var keep, drop bool
	cmd := tenantCommand(s, o, "reset-key", "Give a tenant a new API key, and show it this once",
		func(ctx context.Context, c *client.Client, id int64) (json.RawMessage, error) {
			u := client.TenantUpdate{APIKey: "reset"}
			if keep {
				u.PreviousKey = "keep"
			}
			if drop {
				u = client.TenantUpdate{PreviousKey: "drop"}
			}
			a, err := c.UpdateTenant(ctx, id, u)
			return a.Raw, err
		})
	cmd.Long = "Give a tenant a new API key, and show it this once. The old one is dead at once, which is right for a key that leaked.\n\n" +
		"To replace a key without haste: --keep-previous gives a new one beside it; when all jobs have the new one, --drop-previous ends\n" +
		"the old one, and makes no key."
	cmd.Example = "  duffy-broker tenant reset-key demo\n" +
		"  duffy-broker tenant reset-key demo --keep-previous\n" +
		"  duffy-broker tenant reset-key demo --drop-previous"
	cmd.Flags().BoolVar(&keep, "keep-previous", false, "the key before the new one stays valid, until the next change")
	cmd.Flags().BoolVar(&drop, "drop-previous", false, "only end the key that was kept")
	cmd.MarkFlagsMutuallyExclusive("keep-previous", "drop-previous")
	return cmd
}
