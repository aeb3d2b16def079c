package broker

import (
	"context"
	"sync"
	"time"
)

const (
	// writableFor is how long an answer of Writable counts: monitors may ask as
	// often as they like, and each answer costs a commit.
	writableFor = 10 * time.Second
	// writableWithin is how long a commit may take before the store counts as stuck.
	writableWithin = 5 * time.Second
)

// writable remembers how the last try to write ended. The zero value knows nothing.
type writable struct {
	mu    sync.Mutex
	began time.Time // of the try in progress; zero: none
	at    time.Time // when the last one ended
	err   error
}

// Writable tells whether the store takes changes, by making one that changes
// nothing, at most once in ten seconds; in between it answers as before. It does
// not wait for a store that is stuck. Errors: CodeUnavailable, with a text for all
// to see.
func (b *Broker) Writable(ctx context.Context) error {
	w := &b.writable
	now := b.cfg.Now()
	w.mu.Lock()
	switch {
	case !w.began.IsZero(): // somebody is trying
		err, began := w.err, w.began
		w.mu.Unlock()
		if now.Sub(began) >= writableWithin {
			return Errorf(CodeUnavailable, "the store does not answer").WithHint("the broker's disk is slow or broken")
		}
		return err
	case !w.at.IsZero() && now.Sub(w.at) < writableFor:
		defer w.mu.Unlock()
		return w.err
	}
	w.began = now
	w.mu.Unlock()
	// Whoever asks may go away: that says nothing about the store.
	err := b.cfg.Store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		id, err := tx.Identity()
		if err != nil {
			return err
		}
		return tx.SetIdentity(id)
	})
	if err != nil {
		b.cfg.Log.ErrorContext(ctx, "the store takes no changes", "error", err)
		err = Wrap(CodeUnavailable, err, "the store takes no changes").WithHint("the broker's log says why")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.at, w.err = time.Time{}, b.cfg.Now(), err
	return err
}
