package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// clientOptions are the settings of the client commands, in Duffy's words.
type clientOptions struct {
	url, authName, authKey string
	profile                string
	format                 string
	admin                  bool // without a name, it is the profile's admin who asks

	// For admins: the data directory of a broker that does not run.
	dataDir, keyFile, pools string
}

func newClientCommand(s streams) *cobra.Command {
	var o clientOptions
	cmd := &cobra.Command{
		Use:   "client",
		Short: "Talk to a broker as a tenant",
		Long: "Talk to a broker as a tenant.\n\n" +
			"Settings come from flags, then from DUFFY_BROKER_URL, DUFFY_BROKER_AUTH_NAME and DUFFY_BROKER_AUTH_KEY, then from the profile\n" +
			"of the broker that was started last, then from Duffy's own files (~/.config/duffy/*.yaml, /etc/duffy/*.yaml).",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	addDuffyFormatFlag(s, cmd.PersistentFlags(), &o.format)
	cmd.AddCommand(
		simpleCommand(s, &o, "list-sessions", "List the active sessions", cobra.NoArgs,
			func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
				a, err := c.Sessions(ctx)
				return a.Raw, err
			}),
		simpleCommand(s, &o, "show-session SESSION", "Show one session", cobra.ExactArgs(1),
			func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
				id, err := sessionID(args[0])
				if err != nil {
					return nil, err
				}
				a, err := c.Session(ctx, id)
				return a.Raw, err
			}),
		newRequestSessionCommand(s, &o),
		simpleCommand(s, &o, "retire-session SESSION", "Give the nodes of a session back", cobra.ExactArgs(1),
			func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
				id, err := sessionID(args[0])
				if err != nil {
					return nil, err
				}
				a, err := c.RetireSession(ctx, id)
				return a.Raw, err
			}),
		simpleCommand(s, &o, "list-pools", "List the pools", cobra.NoArgs,
			func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
				a, err := c.Pools(ctx)
				return a.Raw, err
			}),
		simpleCommand(s, &o, "show-pool POOL", "Show one pool and how many nodes it has", cobra.ExactArgs(1),
			func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
				a, err := c.Pool(ctx, args[0])
				return a.Raw, err
			}),
		simpleCommand(s, &o, "list-nodes", "List the nodes lent to you; an admin sees all that exist", cobra.NoArgs,
			func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
				a, err := c.Nodes(ctx)
				return a.Raw, err
			}),
		newSSHCommand(s, &o),
		newRunCommand(s, &o),
	)
	for _, sub := range cmd.Commands() {
		if sub.Example == "" { // as simple as the command
			sub.Example = "  " + strings.NewReplacer("SESSION", "12", "POOL", "local-small").Replace("duffy-broker client "+sub.Use)
		}
	}
	return cmd
}

// addFlags adds the flags that say which broker, as whom, and how to print.
func (o *clientOptions) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&o.url, "url", "", "`URL` of the API, such as http://127.0.0.1:8080/api/v1")
	f.StringVar(&o.authName, "auth-name", "", "`name` of the tenant")
	f.StringVar(&o.authKey, "auth-key", "", "API `key` of the tenant (better in DUFFY_BROKER_AUTH_KEY: other users see command lines)")
	f.StringVar(&o.profile, "profile", "", "`id` of the broker whose profile to use (default: the one started last)")
	if !o.admin {
		return
	}
	addFormatFlag(f, &o.format)
}

// addDataDirFlags adds those for commands that connect works for on the data
// directory of a broker that does not run, beside those of addFlags.
func (o *clientOptions) addDataDirFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&o.dataDir, "data-dir", "", "work on the data `directory` of a broker that does not run, without a key")
	f.StringVar(&o.keyFile, "key-file", "", "with --data-dir: `file` with the root key, if it is outside (also "+keyFileVariable+", "+keyVariable+")")
	for _, name := range []string{"url", "auth-name", "auth-key", "profile"} {
		cmd.MarkFlagsMutuallyExclusive("data-dir", name)
	}
}

// addFormatFlag adds the choice of how to print, a table unless told otherwise.
func addFormatFlag(f *pflag.FlagSet, format *string) {
	f.StringVar(format, "format", view.Table, strings.Join(view.Formats(), ", "))
}

// addDuffyFormatFlag is addFormatFlag where scripts expect what Duffy's client
// prints unless told otherwise. People get a table.
func addDuffyFormatFlag(s streams, f *pflag.FlagSet, format *string) {
	fallback := view.JSON
	if out, ok := s.out.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		fallback = view.Table
	}
	f.StringVar(format, "format", fallback, "json, yaml or flat, as Duffy's client prints them, or table (default: table on a terminal, else json, as Duffy's client)")
	f.Lookup("format").DefValue = "" // said above
}

// simpleCommand asks the API one thing and prints the answer, or the refusal, in
// the chosen format.
func simpleCommand(s streams, o *clientOptions, use, short string, args cobra.PositionalArgs,
	ask func(context.Context, *client.Client, []string) (json.RawMessage, error),
) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, err := o.connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer func() { err = c.end(err) }()
			raw, err := ask(cmd.Context(), c.Client, args)
			if err != nil {
				return o.refused(s, err)
			}
			return view.Format(s.out, o.format, raw)
		},
	}
}

// refused prints an error of the API in the format that a script expects, and
// gives it back: people get it on standard error, with the hint.
func (o *clientOptions) refused(s streams, err error) error {
	if e, ok := errors.AsType[*broker.Error](err); ok && o.format != view.Table {
		shown := *e
		shown.Hint = advice(e)
		return errors.Join(err, view.Error(s.out, o.format, &shown))
	}
	return err
}

func sessionID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return 0, broker.Errorf(broker.CodeInvalid, "session %q is not a number", arg).WithHint("client list-sessions shows the ids")
	}
	return id, nil
}

// client makes a client from the first source that has each setting, and gives
// the SSH key that goes with the tenant, "" where none is known.
func (o *clientOptions) client() (*client.Client, string, error) {
	if o.dataDir != "" {
		return nil, "", errNeedsBroker("this command", "it can't work on a data directory")
	}
	p, err := o.readProfile()
	if err != nil {
		return nil, "", err
	}
	files, damaged := duffyFiles()
	duffy := files.Client
	if p.URL == "" { // no broker of ours: Duffy's files are the profile
		p = profile{URL: duffy.URL, Tenant: duffy.Auth.Name, Tenants: map[string]profileTenant{duffy.Auth.Name: {APIKey: duffy.Auth.Key}}}
	}
	cfg := client.Config{
		URL:    cmp.Or(o.url, os.Getenv("DUFFY_BROKER_URL"), p.URL),
		Tenant: cmp.Or(o.authName, os.Getenv("DUFFY_BROKER_AUTH_NAME")),
		Key:    cmp.Or(o.authKey, os.Getenv("DUFFY_BROKER_AUTH_KEY")),
	}
	if cfg.URL == "" && damaged != nil {
		return nil, "", broker.Wrap(broker.CodeInvalid, damaged, "no broker is known, since a configuration file of Duffy's client can't be read").
			WithHint("mend it, or name a broker with --url, --auth-name and --auth-key")
	}
	if cfg.URL == "" {
		return nil, "", broker.Errorf(broker.CodeInvalid, "no broker is known").
			WithHint("start one with `duffy-broker serve`, or name one with --url, --auth-name and --auth-key")
	}
	var tenant profileTenant
	if sameBroker(cfg.URL, p.URL) { // a key goes to the broker that it belongs to, and nowhere else
		if _, ok := p.Tenants["admin"]; ok && o.admin {
			cfg.Tenant = cmp.Or(cfg.Tenant, "admin")
		}
		cfg.Tenant = cmp.Or(cfg.Tenant, p.Tenant)
		tenant = p.Tenants[cfg.Tenant]
		cfg.Key = cmp.Or(cfg.Key, tenant.APIKey)
	}
	c, err := client.New(cfg)
	return c, tenant.SSHKey, err
}

// sameBroker tells whether two URLs of the API are one, with or without /api/v1.
func sameBroker(a, b string) bool {
	trim := func(u string) string { return strings.TrimSuffix(strings.TrimRight(u, "/"), "/api/v1") }
	return trim(a) == trim(b)
}

func (o *clientOptions) readProfile() (profile, error) {
	if o.profile == "" {
		return newestProfile()
	}
	path, err := profilePath(o.profile)
	if err != nil {
		return profile{}, err
	}
	p, err := readProfile(path)
	if errors.Is(err, fs.ErrNotExist) {
		hint := "there is none here: name the broker with --url, --auth-name and --auth-key"
		if ids := profileIDs(); len(ids) > 0 {
			hint = "those here are " + strings.Join(ids, ", ") + "; without --profile the one of the broker that was started last is taken"
		}
		return p, broker.Errorf(broker.CodeNotFound, "there is no client profile %q", o.profile).WithHint("%s", hint)
	}
	return p, err
}

// duffyConfig is what Duffy's own configuration files say about its client.
type duffyConfig struct {
	Client struct {
		URL  string `yaml:"url"`
		Auth struct {
			Name string `yaml:"name"`
			Key  string `yaml:"key"`
		} `yaml:"auth"`
	} `yaml:"client"`
}

// duffyFiles reads the places where Duffy's client looks: the user's file wins.
// The error is that of the first file that was passed over.
func duffyFiles() (cfg duffyConfig, damaged error) {
	var paths []string
	if dir, err := os.UserConfigDir(); err == nil {
		own, _ := filepath.Glob(filepath.Join(dir, "duffy", "*.yaml"))
		paths = append(paths, own...)
	}
	shared, _ := filepath.Glob("/etc/duffy/*.yaml")
	for _, path := range append(paths, shared...) {
		text, err := os.ReadFile(path) //nolint:gosec // the user's own files
		var found duffyConfig
		if err == nil {
			err = fmtErr(path, yaml.Unmarshal(text, &found))
		}
		if err == nil && found.Client.URL != "" {
			return found, nil
		}
		damaged = cmp.Or(damaged, err)
	}
	return cfg, damaged
}

// findNode picks the node of a session that arg names by host name, address or
// id; no arg means the first.
func findNode(s v1.Session, arg string) (v1.SessionNode, error) {
	var names []string
	for _, n := range s.Nodes {
		if arg == "" || arg == n.Hostname || arg == n.IPAddr || arg == strconv.FormatInt(n.ID, 10) {
			return n, nil
		}
		names = append(names, n.Hostname)
	}
	if arg == "" {
		return v1.SessionNode{}, broker.Errorf(broker.CodeNotFound, "session %d has no nodes", s.ID).
			WithHint("give it back (client retire-session %d) and ask for others", s.ID)
	}
	return v1.SessionNode{}, broker.Errorf(broker.CodeNotFound, "session %d has no node %q", s.ID, arg).
		WithHint("it has %s", strings.Join(names, ", "))
}

func parseSSHArgs(cmd *cobra.Command, args []string) (session int64, node string, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	names, command := args[:dash], args[dash:]
	if len(names) < 1 || len(names) > 2 {
		return 0, "", nil, broker.Errorf(broker.CodeInvalid, "ssh takes SESSION [NODE] [-- COMMAND]").
			WithHint("for example: duffy-broker client ssh 1 -- uname -m")
	}
	if len(names) == 2 {
		node = names[1]
	}
	session, err = sessionID(names[0])
	if err != nil {
		return 0, "", nil, err
	}
	return session, node, command, nil
}

func describe(n v1.SessionNode) string { return fmt.Sprintf("%s (%s)", n.Hostname, n.IPAddr) }
