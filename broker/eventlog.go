package broker

import (
	"context"
	"math"
)

// eventBatch is how many events are read at once.
const eventBatch = 500

// LastEvent gives the sequence number of the newest event, 0 when there never was one.
func (b *Broker) LastEvent(ctx context.Context) (seq int64, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		seq, err = tx.LastEvent()
		return err
	})
	return seq, err
}

// Events gives the next events with a sequence number above after, as far as
// actor may see them: those of its own sessions and their nodes, or all for an
// admin. Go on after last; when it is no higher than after, there are no more.
func (b *Broker) Events(ctx context.Context, actor Tenant, after int64) (visible []Event, last int64, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		visible, last = nil, after
		events, err := tx.Events(after, eventBatch)
		if err != nil {
			return err
		}
		own := make(map[int64]bool) // sessions
		for _, e := range events {
			last = e.Seq
			if !actor.IsAdmin {
				mine, err := ownEvent(tx, own, actor, e)
				if err != nil {
					return err
				}
				if !mine {
					continue
				}
			}
			visible = append(visible, eventFor(actor, e))
		}
		return nil
	})
	return visible, last, err
}

// ownEvent tells whether an event is about a session of the tenant.
func ownEvent(tx ReadTx, own map[int64]bool, actor Tenant, e Event) (bool, error) {
	if e.SessionID == 0 {
		return false, nil
	}
	mine, known := own[e.SessionID]
	if !known {
		s, err := tx.Session(e.SessionID)
		if err != nil && CodeOf(err) != CodeNotFound {
			return false, err
		}
		mine = err == nil && s.TenantID == actor.ID
		own[e.SessionID] = mine
	}
	return mine, nil
}

// eventFor takes out what is for operators: errors of Terraform and SSH.
func eventFor(actor Tenant, e Event) Event {
	if e.Kind == EventNode && !actor.IsAdmin {
		e.Message = ""
	}
	return e
}

// SessionEvents gives the events of a session with a sequence number above after,
// at most limit of them; 0 means all. They are kept for a week. Errors:
// CodeNotFound, CodeForbidden.
func (b *Broker) SessionEvents(ctx context.Context, actor Tenant, id, after int64, limit int) (list []Event, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list = nil
		if _, err := visibleSession(tx, actor, id); err != nil {
			return err
		}
		most := limit
		if most == 0 {
			most = math.MaxInt
		}
		events, err := tx.SessionEvents(id, after, most)
		for _, e := range events {
			list = append(list, eventFor(actor, e))
		}
		return err
	})
	return list, err
}
