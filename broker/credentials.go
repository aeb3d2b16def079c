package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
)

// NewUUID gives a random UUID (version 4): the form of Duffy's API keys.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// NewTenant is a tenant to be created, and its API key.
type NewTenant struct {
	Tenant

	APIKey string // only its keyed hash is stored
}

// CreateTenants stores tenants, all or none. Errors: CodeConflict if a name is
// taken, CodeInvalid without a name or a key.
func (b *Broker) CreateTenants(ctx context.Context, tenants ...NewTenant) error {
	now := b.cfg.Now()
	for _, t := range tenants {
		if t.Name == "" || t.APIKey == "" {
			return Errorf(CodeInvalid, "a tenant needs a name and an API key")
		}
	}
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		for _, t := range tenants {
			created := t.Tenant
			created.KeyHash, created.CreatedAt = b.cfg.Keys.HashAPIKey(t.APIKey), now
			if err := tx.CreateTenant(&created); err != nil {
				return err
			}
			err := tx.AppendEvent(&Event{At: now, Kind: EventTenant, TenantID: created.ID, Message: "created tenant " + t.Name})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Tenants lists all tenants, retired ones too.
func (b *Broker) Tenants(ctx context.Context) (list []Tenant, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list, err = tx.Tenants()
		return err
	})
	return list, err
}

// Authenticate finds the tenant that a name and an API key belong to. Errors:
// CodeUnauthorized when they don't fit, CodeForbidden when they do and the
// tenant is retired, CodeUnavailable when too many logins wait for a comparison
// with an imported hash.
func (b *Broker) Authenticate(ctx context.Context, name, key string) (Tenant, error) {
	var t Tenant
	err := b.cfg.Store.View(ctx, func(tx ReadTx) (err error) {
		t, err = tx.TenantByName(name)
		return err
	})
	if err != nil && CodeOf(err) != CodeNotFound {
		return Tenant{}, err
	}
	// An unknown name costs the same comparison as a known one.
	hash, ok := t.fits(b.cfg.Keys, key)
	adopted := false
	if !ok && err == nil {
		if t, adopted, err = b.adoptImported(ctx, t, key); err != nil {
			return Tenant{}, err
		}
	}
	if !ok && !adopted || err != nil {
		return Tenant{}, Errorf(CodeUnauthorized, "tenant name and API key don't fit")
	}
	if !t.Active() {
		return Tenant{}, Errorf(CodeForbidden, "tenant '%s' is retired", name)
	}
	if !adopted {
		b.rehash(ctx, t, key, hash)
	}
	b.noteUse(t.ID)
	return t, nil
}

// rehash replaces the hash of an API key, or of a legacy key, that was made with
// an old key of the broker, or by another program. It is no part of logging in: where it can't be done
// now, the next login tries again.
func (b *Broker) rehash(ctx context.Context, t Tenant, key string, old []byte) {
	if _, imported := importedHash(old); !imported && b.cfg.Keys.CurrentAPIKeyHash(old) {
		return
	}
	fresh := b.cfg.Keys.HashAPIKey(key)
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		now, err := tx.Tenant(t.ID)
		if err != nil {
			return err
		}
		for _, hash := range []*[]byte{&now.KeyHash, &now.PreviousKeyHash} {
			if bytes.Equal(*hash, old) {
				*hash = fresh
				return tx.UpdateTenant(now)
			}
		}
		i := slices.IndexFunc(now.LegacyKeys, func(k LegacyKey) bool { return bytes.Equal(k.Hash, old) })
		if i < 0 {
			return nil // another login was faster, or the key was changed
		}
		now.LegacyKeys = slices.Clone(now.LegacyKeys)
		now.LegacyKeys[i].Hash = fresh
		return tx.UpdateTenant(now)
	})
	if err != nil && ctx.Err() == nil {
		b.cfg.Log.WarnContext(ctx, "hash of an API key can't be replaced by one of the current root key", "tenant", t.Name, "error", err)
	}
}
