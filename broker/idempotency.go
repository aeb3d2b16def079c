package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// keepIdempotency is for how long a key stands for the session that it gave.
const keepIdempotency = 24 * time.Hour

// maxIdempotencyKey is the longest key that is taken.
const maxIdempotencyKey = 255

// Idempotency remembers which session a request with an idempotency key became,
// so that the same request again gives the same session.
type Idempotency struct {
	TenantID  int64     `json:"tenant_id"` // who sent it
	Key       string    `json:"key"`       // a hash of what was sent
	Request   string    `json:"request"`   // a hash of what was asked for
	SessionID int64     `json:"session_id"`
	CreatedAt time.Time `json:"created_at"`
}

type idempotencyRef struct {
	tenant int64
	key    string
}

// requestOnce serves a request with an idempotency key. While the same key is
// being served it waits for the end of that, and then finds what came of it.
func (b *Broker) requestOnce(ctx context.Context, actor Tenant, req SessionRequest) (Session, error) {
	if len(req.IdempotencyKey) > maxIdempotencyKey {
		return Session{}, Errorf(CodeInvalid, "the idempotency key is longer than %d bytes", maxIdempotencyKey)
	}
	asked, err := json.Marshal(struct {
		TenantID *int64
		Specs    []NodesSpec
	}{req.TenantID, req.Specs})
	if err != nil {
		return Session{}, fmt.Errorf("hash a request: %w", err)
	}
	once := Idempotency{TenantID: actor.ID, Key: hash([]byte(req.IdempotencyKey)), Request: hash(asked)}
	done, err := b.enter(ctx, idempotencyRef{once.TenantID, once.Key})
	if err != nil {
		return Session{}, err
	}
	defer done()
	return b.request(context.WithoutCancel(ctx), actor, req, &once)
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// enter waits until nobody else serves the key.
func (b *Broker) enter(ctx context.Context, ref idempotencyRef) (done func(), err error) {
	for {
		b.mu.Lock()
		ended, busy := b.keyed[ref]
		if !busy {
			if b.keyed == nil {
				b.keyed = make(map[idempotencyRef]chan struct{})
			}
			ended = make(chan struct{})
			b.keyed[ref] = ended
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.keyed, ref)
				b.mu.Unlock()
				close(ended)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, Wrap(CodeUnavailable, context.Cause(ctx), "the request ended while the same one was being served")
		}
	}
}

// earlier finds the session that a request with this key gave before, the zero
// Session when there is none. A request that came to nothing does not count. Its
// caller has entered the key, so nobody else serves it: a session that is still
// being prepared is what a crash left behind.
func earlier(tx Tx, once Idempotency, now time.Time) (Session, error) {
	known, err := tx.Idempotency(once.TenantID, once.Key)
	if CodeOf(err) == CodeNotFound {
		return Session{}, nil
	}
	if err != nil || !known.CreatedAt.Add(keepIdempotency).After(now) {
		return Session{}, err
	}
	s, err := tx.Session(known.SessionID)
	if CodeOf(err) == CodeNotFound {
		return Session{}, nil
	}
	if err != nil || s.State == SessionAbandoned {
		return Session{}, err
	}
	if s.State == SessionPreparing {
		return Session{}, EndSession(tx, &s, now, "the request was cut short")
	}
	if known.Request != once.Request {
		return Session{}, Errorf(CodeInvalid, "this idempotency key was used for another request").
			WithHint("send the same body again, or another key")
	}
	return s, nil
}

// PruneIdempotency forgets keys that no request is compared with any more.
func PruneIdempotency(tx Tx, now time.Time) error {
	_, err := tx.PruneIdempotency(now.Add(-keepIdempotency))
	return err
}
