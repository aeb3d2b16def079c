package broker

import (
	"context"
	"time"
)

// Reload says how the last reading of the pools went, and which pools run.
type Reload struct {
	// At is when it was, and By who or what asked for it: "start", "SIGHUP", "a
	// change of the files", "a webhook", or "tenant NAME".
	At time.Time
	By string
	// Problem says why the pools are left as they were; "" if they are the new ones.
	Problem string
	Hint    string
	// Since is when the pools that run were read, and Pools how many they are.
	Since time.Time
	Pools int
	// Source is where they are read from: a file, a directory or a repository.
	Source string
	// Revision is the commit that they are of; "" unless Source is a repository.
	Revision string
}

// Reloader reads the pools again. Its calls may run at once.
type Reloader interface {
	// Reload checks all of the pools before it changes anything. An error, which
	// the Reload tells of too, has left everything as it was. confirm is the id of
	// the plan that it is to be, or "": then it may not destroy much.
	Reload(ctx context.Context, by, confirm string) (Reload, error)
	// LastReload gives what the last one came to.
	LastReload() Reload
}

// Reload reads the pools again, as asked by an admin. Errors: CodeForbidden,
// CodeInvalid with all mistakes of the file and the modules; CodeUnavailable if
// there is nothing to read; CodeConflict if it would destroy much stock and its
// plan is not confirmed, or is another than the one that is.
func (b *Broker) Reload(ctx context.Context, actor Tenant, confirm string) (Reload, error) {
	if !actor.IsAdmin {
		return Reload{}, errAdminsOnly("reload the pools")
	}
	// Nobody has to wait for it.
	return b.cfg.Reloader.Reload(context.WithoutCancel(ctx), "tenant "+actor.Name, confirm)
}

// LastReload gives what the last reading of the pools came to. CodeForbidden
// unless actor is an admin.
func (b *Broker) LastReload(_ context.Context, actor Tenant) (Reload, error) {
	if !actor.IsAdmin {
		return Reload{}, errAdminsOnly("see how the pools were read")
	}
	return b.cfg.Reloader.LastReload(), nil
}

// NoteReload writes the event of a reload.
func (b *Broker) NoteReload(ctx context.Context, r Reload) error {
	e := Event{At: r.At, Kind: EventReload, To: "done", Message: "read at the request of " + r.By}
	if r.Problem != "" {
		e.To, e.Message = "refused", e.Message+": "+r.Problem
	} else if r.Revision != "" {
		e.Message += ": commit " + r.Revision
	}
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		written := e
		return tx.AppendEvent(&written)
	})
}
