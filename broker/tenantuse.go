package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// noteUse remembers that a tenant has logged in, without a commit.
func (b *Broker) noteUse(id int64) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lastUsed == nil {
		b.lastUsed = make(map[int64]time.Time)
	}
	b.lastUsed[id] = now
}

// withUse puts what is not written down yet into t.
func (b *Broker) withUse(t Tenant) Tenant {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.lastUsed[t.ID]; ok && at.After(t.LastUsed) {
		t.LastUsed = at
	}
	return t
}

// FlushUse writes down how API keys and legacy keys were used since the last
// time. Call it once a minute, and before the end.
func (b *Broker) FlushUse(ctx context.Context) error {
	return errors.Join(b.flushTenantUse(ctx), b.FlushLegacyUse(ctx))
}

func (b *Broker) flushTenantUse(ctx context.Context) error {
	b.mu.Lock()
	used := b.lastUsed
	b.lastUsed = nil
	b.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		for id, at := range used {
			t, err := tx.Tenant(id)
			if err != nil {
				return err
			}
			if !at.After(t.LastUsed) {
				continue
			}
			t.LastUsed = at
			if err := tx.UpdateTenant(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.restoreUse(used)
		return fmt.Errorf("use of API keys: %w", err)
	}
	return nil
}

// restoreUse puts back what could not be written down.
func (b *Broker) restoreUse(used map[int64]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lastUsed == nil {
		b.lastUsed = make(map[int64]time.Time)
	}
	for id, at := range used {
		if at.After(b.lastUsed[id]) {
			b.lastUsed[id] = at
		}
	}
}
