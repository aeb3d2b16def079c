package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// completionTimeout is how long a shell may wait for an answer of the broker. A
// late one, or none, completes nothing.
const completionTimeout = time.Second

// A candidates function gives what an argument may be, after those before it.
type candidates func(ctx context.Context, c *client.Client, before []string) ([]cobra.Completion, error)

// addCompletion completes, in all commands below root, arguments by the word that
// Use has for them, and flags by their names.
func addCompletion(root *cobra.Command) {
	arguments := map[string]candidates{
		"POOL": poolNames, "SESSION": sessionIDs, "TENANT": tenantNames, "NODE": nodeIDs, "KEY-ID": legacyKeyIDs,
		"pool=NAME,quantity=N": poolSpecs,
	}
	flags := map[string]cobra.CompletionFunc{
		"format": cobra.FixedCompletions(view.Formats(), cobra.ShellCompDirectiveNoFileComp),
		"tenant": completeFlag(tenantNames), "pool": completeFlag(poolNames),
		"profile":    completeProfile,
		"state":      cobra.FixedCompletions([]string{"unused", "provisioning", "ready", "contextualizing", "deployed", "deprovisioning", "failed", "done"}, cobra.ShellCompDirectiveNoFileComp),
		"log-format": cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp),
		"log-level":  cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp),
		"data-dir": func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	for _, cmd := range commandsBelow(root) {
		words := strings.Fields(strings.NewReplacer("[", "", "]", "", "...", " ...").Replace(cmd.Use))[1:]
		if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
			cmd.ValidArgsFunction = completeArguments(words, arguments)
		}
		add := func(f *pflag.Flag) {
			complete, ok := flags[f.Name]
			if own := cmd.Annotations[ownFormats]; own != "" && f.Name == "format" {
				complete = cobra.FixedCompletions(strings.Split(own, ", "), cobra.ShellCompDirectiveNoFileComp)
			}
			if ok {
				// An error says that the flag has one of its own.
				_ = cmd.RegisterFlagCompletionFunc(f.Name, complete)
			}
		}
		cmd.Flags().VisitAll(add)
		cmd.PersistentFlags().VisitAll(add)
	}
}

// completeArguments completes each argument by its word; "..." repeats the one
// before it. Words that are not known are completed as the shell does: NAME and
// others that nobody could guess by nothing.
func completeArguments(words []string, known map[string]candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if dash := cmd.ArgsLenAtDash(); dash >= 0 && dash < len(args) {
			return nil, cobra.ShellCompDirectiveDefault // a command of the user
		}
		word, repeated := wordAt(words, len(args))
		find, ok := known[word]
		switch {
		case ok:
			found, directive := completeWith(cmd, find, args, toComplete)
			if word == "pool=NAME,quantity=N" {
				directive |= cobra.ShellCompDirectiveNoSpace
			}
			if repeated {
				found = without(found, args)
			}
			if len(found) == 0 && repeated && len(args) > 0 && toComplete != "" {
				// Right behind -- the command looks like an argument of ours.
				directive = cobra.ShellCompDirectiveDefault
			}
			return found, directive
		case word == "FILE" || word == "PATH" || word == "COMMAND":
			return nil, cobra.ShellCompDirectiveDefault
		case word == "DIR":
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// wordAt gives the word for the argument at i.
func wordAt(words []string, i int) (word string, repeated bool) {
	for at, w := range words {
		switch {
		case w == "--":
			return "", false
		case w == "...":
			return words[at-1], true
		case at == i:
			return w, len(words) > at+1 && words[at+1] == "..."
		}
	}
	return "", false
}

// without leaves out what was given already.
func without(found []cobra.Completion, given []string) []cobra.Completion {
	var left []cobra.Completion
	for _, completion := range found {
		text, _, _ := strings.Cut(completion, "\t")
		taken := false
		for _, arg := range given {
			taken = taken || strings.HasPrefix(arg, text)
		}
		if !taken {
			left = append(left, completion)
		}
	}
	return left
}

func completeFlag(find candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeWith(cmd, find, args, toComplete)
	}
}

// completeWith asks the broker that the command line names, if it does.
func completeWith(cmd *cobra.Command, find candidates, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmp.Or[context.Context](cmd.Context(), context.Background())), completionTimeout)
	defer cancel()
	c, _, err := optionsOf(cmd).client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := find(ctx, c, args)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, completion := range all {
		if strings.HasPrefix(completion, toComplete) {
			found = append(found, completion)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// optionsOf reads the flags of a command that asks a broker.
func optionsOf(cmd *cobra.Command) *clientOptions {
	text := func(name string) string {
		if f := cmd.Flag(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	return &clientOptions{
		url: text("url"), authName: text("auth-name"), authKey: text("auth-key"), profile: text("profile"), dataDir: text("data-dir"),
		admin: !cmd.HasParent() || cmd.Parent().Name() != "client",
	}
}

func poolNames(ctx context.Context, c *client.Client, _ []string) (found []cobra.Completion, err error) {
	a, err := c.Pools(ctx)
	for _, p := range a.Value.Pools {
		found = append(found, cobra.CompletionWithDesc(p.Name, fmt.Sprintf("fill level %d", p.FillLevel)))
	}
	return found, err
}

func poolSpecs(ctx context.Context, c *client.Client, _ []string) (found []cobra.Completion, err error) {
	a, err := c.Pools(ctx)
	for _, p := range a.Value.Pools {
		found = append(found, "pool="+p.Name+",quantity=")
	}
	return found, err
}

func sessionIDs(ctx context.Context, c *client.Client, _ []string) (found []cobra.Completion, err error) {
	a, err := c.Sessions(ctx)
	for _, s := range a.Value.Sessions {
		found = append(found, cobra.CompletionWithDesc(strconv.FormatInt(s.ID, 10), fmt.Sprintf("of %s, %s", s.Tenant.Name, count(len(s.Nodes), "node"))))
	}
	return found, err
}

func tenantNames(ctx context.Context, c *client.Client, _ []string) (found []cobra.Completion, err error) {
	a, err := c.Tenants(ctx)
	for _, t := range a.Value.Tenants {
		found = append(found, cobra.CompletionWithDesc(t.Name, fmt.Sprintf("tenant %d", t.ID)))
	}
	return found, err
}

// nodeIDs gives the nodes of the session that stands before, or all.
func nodeIDs(ctx context.Context, c *client.Client, before []string) (found []cobra.Completion, err error) {
	if len(before) > 0 {
		id, err := strconv.ParseInt(before[0], 10, 64)
		if err != nil {
			return nil, err
		}
		a, err := c.Session(ctx, id)
		for _, n := range a.Value.Session.Nodes {
			found = append(found, cobra.CompletionWithDesc(n.Hostname, "pool "+n.Pool))
		}
		return found, err
	}
	a, err := c.Nodes(ctx)
	for _, n := range a.Value.Nodes {
		found = append(found, cobra.CompletionWithDesc(strconv.FormatInt(n.ID, 10), describeNode(n)))
	}
	return found, err
}

func describeNode(n v1.Node) string {
	text := cmp.Or(n.Hostname, "a node")
	if n.Pool != nil { // a free machine has none
		text += " of pool " + *n.Pool
	}
	return text + ", " + n.State
}

// legacyKeyIDs gives the keys of the tenant that stands before.
func legacyKeyIDs(ctx context.Context, c *client.Client, before []string) (found []cobra.Completion, err error) {
	tenant, err := c.FindTenant(ctx, before[0])
	if err != nil {
		return nil, err
	}
	a, err := c.LegacyKeys(ctx)
	for _, k := range a.Value.LegacyKeys {
		if k.TenantID == tenant {
			found = append(found, cobra.CompletionWithDesc(strconv.FormatInt(k.ID, 10), k.Note))
		}
	}
	return found, err
}

func completeProfile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return profileIDs(), cobra.ShellCompDirectiveNoFileComp
}
