package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// NoticeInterruption is the kind of notice that says that a machine will go away,
// such as a spot instance that its cloud wants back.
const NoticeInterruption = "interruption"

// Interruption says that a node will go away by itself.
type Interruption struct {
	Action  string    `json:"action"`      // what will be done to it, in its cloud's words: terminate, stop, hibernate
	At      time.Time `json:"at,omitzero"` // when; zero: not known
	Noticed time.Time `json:"noticed"`     // when the broker heard of it
}

// Notice is what a node tells the broker about itself.
type Notice struct {
	Kind   string    // [NoticeInterruption]
	Action string    // as in [Interruption]; "": terminate
	At     time.Time // as in [Interruption]
}

// actionForm is how clouds name what they do. It stands in events.
var actionForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// String says what happens to the node, as a part of a sentence.
func (i Interruption) String() string {
	if i.At.IsZero() {
		return fmt.Sprintf("it will be interrupted (%s)", i.Action)
	}
	return fmt.Sprintf("it will be interrupted (%s) at %s", i.Action, i.At.UTC().Format(time.RFC3339))
}

// Notify hears what a node says about itself. One that will be interrupted leaves
// the stock at once, or never gets there, which is no failure of its pool; one that
// is lent stays its tenant's, who sees the notice in the node and in the events of
// the session. The first notice counts: repeating it changes nothing. It tells
// whether this was the first.
//
// Errors: CodeInvalid for a notice that makes no sense; CodeNotFound for a node that
// has been forgotten meanwhile.
func (b *Broker) Notify(ctx context.Context, node Node, notice Notice) (first bool, err error) {
	if notice.Action == "" {
		notice.Action = "terminate"
	}
	switch {
	case notice.Kind != NoticeInterruption:
		return false, Errorf(CodeInvalid, "there are no notices of kind %.40q", notice.Kind).WithHint("the only kind is %q", NoticeInterruption)
	case !actionForm.MatchString(notice.Action):
		return false, Errorf(CodeInvalid, "%.40q is no action", notice.Action).WithHint("it is a word such as terminate, stop or hibernate")
	}
	if notice.At = notice.At.UTC(); !notice.At.IsZero() && (notice.At.Year() < 1 || notice.At.Year() > 9999) {
		return false, Errorf(CodeInvalid, "the notice is of a time that can't be kept").WithHint("leave `at` out if the time is not known")
	}
	now := b.cfg.Now()
	var n Node
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		first = false
		if n, err = tx.Node(node.ID); err != nil {
			return err
		}
		if n.Interruption != nil || n.State.IsTerminal() {
			return errUnchanged
		}
		first = true
		n.Interruption = &Interruption{Action: notice.Action, At: notice.At, Noticed: now}
		message := n.Interruption.String()
		if n.State == NodeReady {
			return MoveNode(tx, &n, NodeReleasing, now, message)
		}
		// The loop takes it out, if it is being made: somebody may be at work on it.
		if err := tx.UpdateNode(n.State, n); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: now, Kind: EventNotice, Pool: n.Pool, NodeID: n.ID, SessionID: n.SessionID,
			From: string(n.State), To: string(n.State), Message: message,
		})
	})
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b.cfg.Log.WarnContext(ctx, "a node will be interrupted", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "session_id", n.SessionID,
		"state", string(n.State), "action", n.Interruption.Action, "at", n.Interruption.At)
	b.cfg.Wake()
	return true, nil
}
