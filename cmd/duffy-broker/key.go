package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// Where a root key outside of the data directory may come from. Terraform gets
// neither variable.
const (
	keyFileVariable = "DUFFY_BROKER_KEY_FILE"
	keyVariable     = "DUFFY_BROKER_KEY"
)

// outsideKey gives the root key that is kept outside of the data directory: that
// of the file, if one was named, or else that of the environment. False if there
// is none.
func outsideKey(file string) (secret.Key, bool, error) {
	if file = cmp.Or(file, os.Getenv(keyFileVariable)); file != "" {
		key, err := secret.ReadKeyFile(file)
		if err != nil {
			return key, false, broker.Wrap(broker.CodeInvalid, err, "the key file can't be used").
				WithHint("it must hold 32 raw bytes, as head -c 32 /dev/urandom gives them; base64 belongs into %s", keyVariable)
		}
		return key, true, nil
	}
	text := os.Getenv(keyVariable)
	if text == "" {
		return secret.Key{}, false, nil
	}
	key, err := secret.ParseKey(text)
	if err != nil {
		return key, false, broker.Wrap(broker.CodeInvalid, err, "the key in %s can't be used", keyVariable).
			WithHint("it must be base64 of 32 bytes, as head -c 32 /dev/urandom | base64 gives it")
	}
	return key, true, nil
}

// openKeys opens the keys of the directory, with the current one from outside if
// there is one there. A first start makes a key.
func (d *dataDir) openKeys(ctx context.Context, log *slog.Logger, file string) (*secret.Keyring, error) {
	key, outside, err := outsideKey(file)
	if err != nil {
		return nil, err
	}
	if !outside {
		if err := d.checkKeys(); err != nil {
			return nil, err
		}
		return secret.Open(d.join("keys"))
	}
	if _, err := os.Lstat(d.join("keys", "root.key")); err == nil {
		log.WarnContext(ctx, "the root key comes from outside of the data directory, and there is one in it too, which is not used: if it is of no use, remove it",
			"path", d.join("keys", "root.key"))
	}
	return secret.OpenWith(d.join("keys"), key)
}

func newKeyCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show and rotate the broker's root key",
		Long: "The root key seals what the store keeps of nodes, and API keys are hashed with it. Whoever has it and the data directory can read all secrets;\n" +
			"without it the store is of no use.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newKeyRotateCommand(s), newKeyListCommand(s))
	return cmd
}

func newKeyRotateCommand(s streams) *cobra.Command {
	var format, data, keyFile, oldKeyFile string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new root key; the broker must be stopped",
		Long: "Make a new root key. The old one is kept until nothing needs it any more. The broker must be stopped; its next start begins to seal anew\n" +
			"what the old key has sealed, and says in its log when the old key can be removed.\n\n" +
			"With --key-file the new key is in that file, which is made if it is not there, and no key stays readable in the data directory.",
		Example: "  duffy-broker key rotate --data-dir data\n  duffy-broker key rotate --data-dir data --key-file /etc/duffy-broker/root.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return rotateKey(cmd.Context(), s, format, data, keyFile, oldKeyFile)
		},
	}
	f := cmd.Flags()
	addFormatFlag(f, &format)
	addDataDirFlag(cmd, &data, "`directory` of the broker")
	f.StringVar(&keyFile, "key-file", "", "`file` for the new key, outside of the data directory (default: in it)")
	f.StringVar(&oldKeyFile, "old-key-file", "", "`file` with the present key (default: where serve would find it: "+keyFileVariable+", "+keyVariable+", the data directory)")
	return cmd
}

func rotateKey(ctx context.Context, s streams, format, data, keyFile, oldKeyFile string) (err error) {
	dir, err := openExistingDataDir(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	k, err := openKeyring(ctx, dir, oldKeyFile)
	if err != nil {
		return err
	}
	if err := k.store.Close(); err != nil {
		return fmtErr("close the store", err)
	}
	if k.outside && keyFile == "" {
		return broker.Errorf(broker.CodeInvalid, "the present root key is outside of the data directory: it can't be replaced there").
			WithHint("name a file for the new one with --key-file")
	}
	before := k.keys.Current()
	keys, at := k.keys, dir.join("keys", "root.key")
	if keyFile == "" {
		keys, err = secret.Rotate(dir.join("keys"))
	} else {
		keys, err = secret.RotateTo(dir.join("keys"), keys, keyFile)
		at = keyFile
	}
	if err != nil {
		return err
	}
	return printData(s, format, map[string]any{"root_key": map[string]string{
		"id": keys.Current().ID(), "path": at, "previous_id": before.ID(), "previous_path": dir.join("keys", "old"),
	}})
}

func newKeyListCommand(s streams) *cobra.Command {
	var format, data, keyFile string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the root keys, and what needs which",
		Long: "Show the root keys, how old they are, and what needs which. While the broker runs, that is as of its last look: it looks at its start, and\n" +
			"every hour as long as there is an old key.",
		Example: "  duffy-broker key list --data-dir data",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return listKeys(cmd.Context(), s, format, data, keyFile) },
	}
	f := cmd.Flags()
	addFormatFlag(f, &format)
	addDataDirFlag(cmd, &data, "`directory` of the broker")
	f.StringVar(&keyFile, "key-file", "", "`file` with the root key, if it is outside of the data directory (also "+keyFileVariable+", "+keyVariable+")")
	return cmd
}

func listKeys(ctx context.Context, s streams, format, data, keyFile string) (err error) {
	dir, err := openExistingDataDir(data)
	if broker.CodeOf(err) == broker.CodeConflict {
		// A broker runs: read what can be read beside it.
		dir := &dataDir{path: data}
		keys, _, err := dir.knownKeys(keyFile)
		if err != nil {
			return err
		}
		note, err := readKeyNote(dir)
		if err != nil {
			return err
		}
		return printKeys(s, format, keys, note, time.Now())
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	k, err := openKeyring(ctx, dir, keyFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fmtErr("close the store", k.store.Close())) }()
	note := keyNote{At: time.Now()}
	note.Uses, err = broker.KeyUses(ctx, k.store, terraform.New(terraform.Config{Keyring: k.keys}), k.keys.KeyOf)
	if err != nil {
		return err
	}
	return printKeys(s, format, k.keys, note, note.At)
}

// rootKey is what key list shows of a key.
type rootKey struct {
	ID       string   `json:"id"`
	Use      string   `json:"use"` // current, old, or missing
	Since    *string  `json:"since"`
	Age      string   `json:"age,omitempty"`
	NeededBy []string `json:"needed_by"`
}

func printKeys(s streams, format string, keys *secret.Keyring, note keyNote, now time.Time) error {
	list := struct {
		RootKeys []rootKey `json:"root_keys"`
		AsOf     string    `json:"as_of"`
	}{AsOf: note.At.Format(time.RFC3339)}
	known := map[string]bool{}
	for i, key := range keys.Keys() {
		known[key.ID()] = true
		k := rootKey{ID: key.ID(), Use: "old"}
		if !key.Since.IsZero() {
			since := key.Since.Format(time.RFC3339)
			k.Since, k.Age = &since, age(now.Sub(key.Since))
		}
		if i == 0 {
			k.Use, k.NeededBy = "current", append(needs(note.Uses[key.ID()]), "everything new")
		} else {
			k.NeededBy = append([]string{}, note.stillNeeds(key, now)...)
		}
		list.RootKeys = append(list.RootKeys, k)
	}
	for _, id := range note.ids() {
		if !known[id] {
			list.RootKeys = append(list.RootKeys, rootKey{ID: id, Use: "missing", NeededBy: needs(note.Uses[id])})
		}
	}
	return printData(s, format, list)
}

// needs says in words what needs a key.
func needs(use broker.KeyUse) (words []string) {
	if use.Nodes > 0 {
		words = append(words, count(use.Nodes, "node"))
	}
	if use.APIKeys > 0 {
		words = append(words, count(use.APIKeys, "API key"))
	}
	return words
}

// age tells a time in the largest unit that gives a whole number.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", max(0, d/time.Minute))
}

// openExistingDataDir takes the data directory of a broker that does not run.
func openExistingDataDir(path string) (*dataDir, error) {
	if _, err := os.Stat((&dataDir{path: path}).join("broker.db")); err != nil {
		return nil, broker.Wrap(broker.CodeNotFound, err, "%s is not the data directory of a broker", path).
			WithHint("name it with --data-dir")
	}
	return openDataDir(path, time.Now())
}

// keyring is the keys of a data directory and the store that they belong to.
type keyring struct {
	keys    *secret.Keyring
	outside bool
	store   *bolt.Store
}

// openKeyring opens keys and store, if these belong together.
func openKeyring(ctx context.Context, dir *dataDir, keyFile string) (k keyring, err error) {
	if k.keys, k.outside, err = dir.knownKeys(keyFile); err != nil {
		return k, err
	}
	if k.store, err = bolt.Open(dir.join("broker.db"), bolt.Options{}); err != nil {
		return k, err
	}
	err = k.store.View(ctx, func(tx broker.ReadTx) error {
		id, err := tx.Identity()
		if err == nil && !k.keys.EqualAPIKey(id.ID, id.KeyCheck) {
			return broker.Errorf(broker.CodeConflict, "the root key %s is not the one that %s was made with", k.keys.Current().ID(), dir.join("broker.db")).
				WithHint("name the file of the right one, or put back the keys directory from the backup that belongs to the database")
		}
		if broker.CodeOf(err) == broker.CodeNotFound {
			return nil // the first start was cut short
		}
		return err
	})
	if err != nil {
		err = errors.Join(err, k.store.Close())
	}
	return k, err
}

// knownKeys opens the keys as serve does, but makes none.
func (d *dataDir) knownKeys(file string) (keys *secret.Keyring, outside bool, err error) {
	key, outside, err := outsideKey(file)
	if err != nil {
		return nil, false, err
	}
	if outside {
		keys, err = secret.OpenWith(d.join("keys"), key)
		return keys, true, err
	}
	if err := d.checkKeys(); err != nil {
		return nil, false, err
	}
	keys, err = secret.Open(d.join("keys"))
	return keys, false, err
}

// keyNote is what the broker writes down about its keys, for key list.
type keyNote struct {
	At   time.Time                `json:"at"`
	Uses map[string]broker.KeyUse `json:"uses"` // by the id of the key; "": it is not known which
}

func keyNotePath(d *dataDir) string { return d.join("keys", "uses.json") }
