package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

// tidyInterval is how often module copies and workspaces that nobody needs are
// removed.
const tidyInterval = time.Hour

// minWebhookSecret is the least bytes of a secret that nobody guesses.
const minWebhookSecret = 16

// reloader reads the pools again, one time after the other. All of them are
// checked first: a mistake changes nothing.
type reloader struct {
	source poolSource
	apply  func(ctx context.Context, file *config.File, confirm string) (pools int, err error) // nothing has changed on an error
	note   func(context.Context, broker.Reload)
	now    func() time.Time

	mu   sync.Mutex // reading
	last struct {
		sync.Mutex
		broker.Reload
	}
}

// started notes what the pools were at the start.
func (r *reloader) started(revision string, pools int) {
	now := r.now()
	r.last.Lock()
	defer r.last.Unlock()
	r.last.Reload = broker.Reload{At: now, By: "start", Since: now, Pools: pools, Source: r.source.String(), Revision: revision}
}

// LastReload is [broker.Reloader].
func (r *reloader) LastReload() broker.Reload {
	r.last.Lock()
	defer r.last.Unlock()
	return r.last.Reload
}

// Reload is [broker.Reloader].
func (r *reloader) Reload(ctx context.Context, by, confirm string) (broker.Reload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	revision, pools, err := r.read(ctx, confirm)
	if ctx.Err() != nil { // the broker stops
		return r.LastReload(), ctx.Err()
	}
	r.last.Lock()
	last := r.last.Reload
	last.At, last.By, last.Problem, last.Hint = r.now(), by, "", ""
	if err != nil {
		last.Problem, last.Hint = err.Error(), hintOf(err)
	} else {
		last.Since, last.Pools, last.Revision = last.At, pools, revision
	}
	r.last.Reload = last
	r.last.Unlock()
	r.note(ctx, last)
	return last, err
}

func (r *reloader) read(ctx context.Context, confirm string) (revision string, pools int, err error) {
	path, revision, err := r.source.fetch(ctx)
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.source.reject())
		}
	}()
	var mistakes strings.Builder
	file, err := loadPools(ctx, streams{err: &mistakes}, path)
	if err != nil {
		return "", 0, broker.Errorf(broker.CodeOf(err), "%s\n%s", broker.MessageOf(err), strings.TrimRight(mistakes.String(), "\n"))
	}
	if pools, err = r.apply(ctx, file, confirm); err != nil {
		return "", 0, err
	}
	return revision, pools, r.source.accept(revision)
}

// followPools reads the pools again at each SIGHUP, webhook and change that it
// finds, and tidies now and then.
func (d *daemon) followPools(ctx context.Context) {
	tidy := time.NewTicker(tidyInterval)
	defer tidy.Stop()
	var polls <-chan time.Time
	if d.poll > 0 {
		poll := time.NewTicker(d.poll)
		defer poll.Stop()
		polls = poll.C
	}
	for {
		by := ""
		select {
		case <-ctx.Done():
			return
		case <-tidy.C:
			if err := d.prune(ctx); err != nil {
				d.log.WarnContext(ctx, "module copies or workspaces that are not used any more can't be removed", "error", err)
			}
			if err := d.declareWaiting(ctx); err != nil {
				d.log.WarnContext(ctx, "hosts of inventories can't be declared", "error", err)
			}
		case <-d.hangups:
			by = "SIGHUP"
		case <-d.pushes:
			by = "a webhook"
		case <-polls:
			changed, err := d.reloader.source.changed(ctx)
			if err != nil && ctx.Err() == nil {
				d.log.WarnContext(ctx, "can't see whether the pools have changed", "source", d.reloader.source.String(), "error", err, "hint", hintOf(err))
			}
			if changed {
				by = d.reloader.source.change()
			}
		}
		if by != "" {
			_, _ = d.reloader.Reload(ctx, by, "") // noteReload tells of an error
		}
	}
}

// applyPools puts the pools of a file in the place of those that run.
func (d *daemon) applyPools(ctx context.Context, file *config.File, confirm string) (int, error) {
	if file.Terraform.Runs != d.terraform.Runs || file.Terraform.MemoryPerRun != d.terraform.MemoryPerRun ||
		file.Terraform.RequiredVersion.String() != d.terraform.RequiredVersion.String() {
		d.log.WarnContext(ctx, "the terraform block has changed: it is read at a start only, so restart the broker for it")
	}
	if err := locateModules(file, func(p broker.Pool) (string, error) { return d.engine.Locate(ctx, p) }); err != nil {
		err = explain(file, err)
		return 0, broker.Errorf(broker.CodeInvalid, "%s", err).WithHint("%s", hintOf(err)) // all of it: only admins see it
	}
	old, pools := d.pools.All(), slices.Clone(file.Pools)
	for i := range pools {
		pools[i].Followed = broker.FollowedIn(old, file.Moves, pools[i].Name)
	}
	pools, err := preparePools(ctx, d.engine, pools)
	if err != nil {
		err = explain(file, err)
		return 0, broker.Errorf(broker.CodeInvalid, "%s", err).WithHint("%s", hintOf(err)) // all of it: only admins see it
	}
	if err := d.checkPolicy(ctx, file, pools); err != nil {
		return 0, err
	}
	if err := d.checkDestroys(ctx, file, confirm); err != nil {
		return 0, err
	}
	err = d.loop.Change(func() error {
		if err := d.broker.MovePools(ctx, file.Moves); err != nil {
			return err
		}
		if err := d.declareHosts(ctx, file.Inventories); err != nil {
			return err
		}
		if err := d.broker.ForgetFollowed(ctx, old, pools); err != nil {
			return err
		}
		d.pools.Set(pools, file.Accounts...)
		return nil
	})
	if err != nil {
		return 0, err
	}
	d.legacy.Store(legacySettings(file.Legacy))
	d.reloadRules.Store(&file.Reload)
	d.broker.SetTenantDefaults(file.TenantDefaults)
	d.broker.SetPoolsDir(file.Root)
	d.broker.SetFileSettings(file.Settings())
	d.noteRunning(ctx)
	d.loop.Wake()
	return len(pools), nil
}

// noteReload tells the operator of a reload, in the log and as an event.
func (d *daemon) noteReload(ctx context.Context, r broker.Reload) {
	d.meters.Reload(r.Problem == "")
	if r.Problem != "" {
		d.log.ErrorContext(ctx, "pools are left as they were", "by", r.By, "error", r.Problem, "hint", r.Hint)
	} else {
		d.log.InfoContext(ctx, "pools reloaded", "by", r.By, "pools", r.Pools, "revision", r.Revision)
	}
	if err := d.broker.NoteReload(ctx, r); err != nil {
		d.log.WarnContext(ctx, "the event of a reload can't be written", "error", err)
	}
}

// push notes that the repository has something new. It doesn't block.
func (d *daemon) push() {
	select {
	case d.pushes <- struct{}{}:
	default: // the last is not looked at yet
	}
}

// checkPoll tells whether --poll can be used.
func checkPoll(interval time.Duration) error {
	if interval != 0 && interval < time.Second {
		return broker.Errorf(broker.CodeInvalid, "--poll %s is too often", interval).WithHint("1s or more, or 0 for never")
	}
	return nil
}

// readWebhookSecret reads the file of --webhook-secret-file; "" gives none.
func readWebhookSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, broker.Wrap(broker.CodeInvalid, err, "the secret of webhooks can't be read")
	}
	secret := bytes.TrimSpace(text)
	if len(secret) < minWebhookSecret {
		return nil, broker.Errorf(broker.CodeInvalid, "the secret of webhooks in %s is too short", path).
			WithHint("make one with: openssl rand -hex 32 > %s", path)
	}
	return secret, nil
}

func newReloadCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	var status, wait bool
	var order v1.ReloadOrder
	cmd := simpleCommand(s, &o, "reload", "Have the broker read its pools again", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
			if status {
				a, err := c.LastReload(ctx)
				return a.Raw, err
			}
			a, err := c.Reload(ctx, order)
			if err == nil && wait {
				err = followRollouts(ctx, s.err, c, "")
			}
			return a.Raw, err
		})
	cmd.Long = "Have the broker read its pools and modules again, and wait for that. A mistake changes nothing, and is told.\n" +
		"What would destroy much of the stock is refused until --confirm names its plan. With --wait it also waits until all stale stock is replaced, prints how that goes, and fails if a rollout pauses or is aborted."
	cmd.Example = "  duffy-broker reload\n  duffy-broker reload --wait\n  duffy-broker reload --confirm 0123456789abcdef --wait\n  duffy-broker reload --status"
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&status, "status", false, "only tell how the last one went")
	cmd.Flags().StringVar(&order.Confirm, "confirm", "", "`id` of the plan that it is to be: refused if it would be another")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the rollouts that follow")
	cmd.MarkFlagsMutuallyExclusive("status", "wait")
	return cmd
}
