package broker

import (
	"bytes"
	"context"
	"slices"
	"sync"
)

// ImportedKeys compares API keys with hashes that another program has made. Such
// a hash may be slow on purpose.
type ImportedKeys interface {
	// EqualImportedKey tells whether hash is one of key. It may take a good part of
	// a second of CPU.
	EqualImportedKey(key string, hash []byte) bool
}

// importedPrefix stands before a hash that was imported. None of ours begins so.
const importedPrefix = "imported:"

// maxImportedLogins is how many logins of one tenant may wait for a comparison
// with an imported hash.
const maxImportedLogins = 64

// ImportedHash gives what [Tenant.KeyHash] holds of a hash that another program
// has made. The first login whose key fits replaces it by one of our own.
func ImportedHash(hash []byte) []byte { return append([]byte(importedPrefix), hash...) }

// importedHash gives what ImportedHash was given.
func importedHash(hash []byte) ([]byte, bool) { return bytes.CutPrefix(hash, []byte(importedPrefix)) }

// importedHashes are those hashes of t, as they are stored, that were imported.
func (t Tenant) importedHashes() (hashes [][]byte) {
	for _, hash := range [][]byte{t.KeyHash, t.PreviousKeyHash} {
		if _, ok := importedHash(hash); ok {
			hashes = append(hashes, hash)
		}
	}
	return hashes
}

// adoptImported tells whether key fits an imported hash of t. If so the hash is
// replaced, so that this never happens again, and t is given as it is then. For
// retired tenants too: their owners may ask as often as they like.
//
// That a login takes long tells that the tenant was imported and has not logged
// in yet, and no more.
func (b *Broker) adoptImported(ctx context.Context, t Tenant, key string) (Tenant, bool, error) {
	if b.cfg.ImportedKeys == nil || len(t.importedHashes()) == 0 {
		return t, false, nil
	}
	leave, err := b.imported.enter(ctx, t.ID)
	if err != nil {
		return t, false, err
	}
	defer leave()
	// Whoever was before us in the line may have done it.
	if t, err = b.storedTenant(ctx, t.ID); err != nil {
		return t, false, err
	}
	if _, ok := t.fits(b.cfg.Keys, key); ok {
		return t, true, nil
	}
	hash, err := b.imported.find(ctx, b.cfg.ImportedKeys, key, t.importedHashes())
	if hash == nil || err != nil {
		return t, false, err
	}
	ctx = context.WithoutCancel(ctx) // the work is done, even if the client has gone
	b.rehash(ctx, t, key, hash)
	if t, err = b.storedTenant(ctx, t.ID); err != nil {
		return t, false, err
	}
	// Not if the key was changed in the meantime. But if the store took no change,
	// which rehash has logged, the old hash is there and counts.
	_, ok := t.fits(b.cfg.Keys, key)
	return t, ok || slices.ContainsFunc(t.importedHashes(), func(h []byte) bool { return bytes.Equal(h, hash) }), nil
}

func (b *Broker) storedTenant(ctx context.Context, id int64) (t Tenant, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		t, err = tx.Tenant(id)
		return err
	})
	return t, err
}

// importedLine bounds what imported hashes cost: one comparison at a time, which
// is one processor at most, whoever asks how often. Tenants take turns: wrong keys
// for one don't keep others waiting.
type importedLine struct {
	turn chan struct{} // full: somebody compares

	mu      sync.Mutex
	tenants map[int64]*tenantLine
}

// tenantLine is the line of one tenant.
type tenantLine struct {
	turn   chan struct{} // full: one of the line has left it, for that of the tenants
	logins int           // in the line, and the one that has left it
}

func newImportedLine() *importedLine {
	return &importedLine{turn: make(chan struct{}, 1), tenants: make(map[int64]*tenantLine)}
}

// enter waits until no other login of the tenant is ahead, and keeps others behind
// until leave is called. Errors: CodeUnavailable if too many wait already, or the
// caller gives up.
func (l *importedLine) enter(ctx context.Context, tenant int64) (leave func(), err error) {
	l.mu.Lock()
	line := l.tenants[tenant]
	if line == nil {
		line = &tenantLine{turn: make(chan struct{}, 1)}
		l.tenants[tenant] = line
	}
	full := line.logins >= maxImportedLogins
	if !full {
		line.logins++
	}
	l.mu.Unlock()
	if full {
		return nil, Errorf(CodeUnavailable, "too many logins at once of a tenant whose API key was imported").
			WithHint("try again: once the key has been used, logins are fast")
	}
	out := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if line.logins--; line.logins == 0 {
			delete(l.tenants, tenant)
		}
	}
	select {
	case line.turn <- struct{}{}:
		return func() { <-line.turn; out() }, nil
	case <-ctx.Done():
		out()
		return nil, errLoginGivenUp(ctx)
	}
}

// find gives the one of these hashes that is of key, nil if none is. It waits for
// at most one login of each other tenant. Errors: CodeUnavailable if the caller
// gives up.
func (l *importedLine) find(ctx context.Context, keys ImportedKeys, key string, hashes [][]byte) ([]byte, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, errLoginGivenUp(ctx)
	}
	for _, hash := range hashes {
		if foreign, ok := importedHash(hash); ok && keys.EqualImportedKey(key, foreign) {
			return hash, nil
		}
	}
	return nil, nil
}

func errLoginGivenUp(ctx context.Context) error {
	return Wrap(CodeUnavailable, ctx.Err(), "the login was given up")
}
