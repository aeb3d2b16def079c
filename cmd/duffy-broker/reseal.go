package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// resealEvery is how often the broker looks what still needs an old key.
const resealEvery = time.Hour

// resealer takes the store from old root keys to the current one, in the
// background.
type resealer struct {
	store broker.Store
	nodes broker.Resealer
	keys  *secret.Keyring
	dir   *dataDir
	log   *slog.Logger

	told map[string]bool // keys that the operator has heard of
}

// run works until nothing needs an old key any more, or ctx ends.
func (r *resealer) run(ctx context.Context) {
	r.told = make(map[string]bool)
	ticker := time.NewTicker(resealEvery)
	defer ticker.Stop()
	for {
		done, err := r.pass(ctx, time.Now())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.log.ErrorContext(ctx, "not everything can be sealed with the current root key", "error", err)
		}
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// pass seals anew what can be, and tells once of each key what there is to tell.
// It is done when there is nothing left to do or to tell.
func (r *resealer) pass(ctx context.Context, now time.Time) (done bool, err error) {
	changed, resealErr := broker.Reseal(ctx, r.store, r.nodes)
	if changed > 0 {
		r.log.InfoContext(ctx, "sealed anew with the current root key", "nodes", changed, "key", r.keys.Current())
	}
	note := keyNote{At: now}
	if note.Uses, err = broker.KeyUses(ctx, r.store, r.nodes, r.keys.KeyOf); err != nil {
		return false, errors.Join(resealErr, err)
	}
	if err := note.write(r.dir); err != nil {
		return false, errors.Join(resealErr, err)
	}
	done = resealErr == nil
	known := make(map[string]bool)
	for i, key := range r.keys.Keys() {
		known[key.ID()] = true
		if i == 0 {
			continue
		}
		if needed := note.stillNeeds(key, now); len(needed) > 0 {
			r.log.DebugContext(ctx, "an old root key is still needed", "key", key, "by", strings.Join(needed, ", "))
			done = false
			continue
		}
		if !r.told[key.ID()] {
			r.log.InfoContext(ctx, "an old root key is not needed any more: it can be removed", "key", key, "path", key.Path)
		}
		r.told[key.ID()] = true
	}
	for _, id := range note.ids() {
		if known[id] || id == "" || r.told[id] {
			continue
		}
		r.told[id] = true
		path := r.dir.join("keys", "old", id+".key")
		if note.Uses[id].Nodes == 0 {
			r.log.WarnContext(ctx, "tenants can't log in whose API keys were hashed with a root key that is not here: give them new ones, or put it back from a backup",
				"key", id, "path", path, "api_keys", note.Uses[id].APIKeys)
			continue
		}
		r.log.ErrorContext(ctx, "a root key is missing, without which nodes can't be destroyed: put it back from a backup, and start again",
			"key", id, "path", path, "by", strings.Join(needs(note.Uses[id]), ", "))
	}
	return done, resealErr
}

// stillNeeds says in words what needs an old key.
func (n keyNote) stillNeeds(key secret.Key, now time.Time) []string {
	words := needs(n.Uses[key.ID()])
	for _, word := range needs(n.Uses[""]) { // it may be this key
		words = append(words, "perhaps "+word)
	}
	// Logs are not sealed anew, since they go by themselves.
	if until := key.Since.Add(reconcile.KeepRuns); now.Before(until) {
		words = append(words, "logs of runs until "+until.Format(time.DateOnly))
	}
	return words
}

// ids gives the keys that something needs, in a fixed order, without "".
func (n keyNote) ids() []string {
	ids := slices.Sorted(maps.Keys(n.Uses))
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

func (n keyNote) write(d *dataDir) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return fmtErr("write down what needs which root key", writePrivate(keyNotePath(d), append(text, '\n')))
}

func readKeyNote(d *dataDir) (n keyNote, err error) {
	text, err := os.ReadFile(keyNotePath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return n, broker.Errorf(broker.CodeUnavailable, "the broker has not looked yet at what needs which root key").
			WithHint("try again in a moment")
	}
	if err != nil {
		return n, fmtErr("read what needs which root key", err)
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return n, fmt.Errorf("%s: %w", keyNotePath(d), err)
	}
	return n, nil
}
