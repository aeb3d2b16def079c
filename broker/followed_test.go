package broker_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// What a pool follows is kept, moves with it, and goes when nothing is followed.
func TestFollowedRecords(t *testing.T) {
	w := newWorld(t, 0)
	ctx := t.Context()
	last, err := w.b.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := broker.Followed{Pool: "a"}.See("base", map[string]string{"image": `"1"`}, t0)
	second := first.See("base", map[string]string{"image": `"2"`}, t0)
	for _, step := range [][2]broker.Followed{{{Pool: "a"}, first}, {first, first}, {first, second}} {
		if err := w.b.NoteFollowed(ctx, step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.b.NoteFollowProblem(ctx, "a", "the cloud is away"); err != nil {
		t.Fatal(err)
	}
	got := w.moves(last)
	for i := range got {
		got[i].Seq = 0
	}
	want := []broker.Event{
		{At: t0, Kind: broker.EventPool, Pool: "a", From: `image="1"`, To: `image="2"`, Message: `followed outputs changed: image="1" -> image="2"`},
		{At: t0, Kind: broker.EventPool, Pool: "a", Message: "followed outputs can't be looked up, the last values stay: the cloud is away"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	pools := func(name string, outputs ...string) []broker.Pool {
		return []broker.Pool{{Name: name, Follow: broker.Follow{Outputs: outputs}}, {Name: "plain"}}
	}
	record := func(name string, moves ...broker.Move) broker.Followed {
		t.Helper()
		list, err := w.b.WithFollowed(ctx, pools(name, "image"), moves)
		if err != nil || len(list) != 2 || list[1].Followed.Base != "" {
			t.Fatalf("pools %+v, %v", list, err)
		}
		return list[0].Followed
	}
	same := func(what string, got, want broker.Followed) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	same("record", record("a"), second)
	move := broker.Move{From: "a", To: "b"}
	moved := second
	moved.Pool = "b"
	same("of a pool that is to move", record("b", move), moved)
	if err := w.b.MovePools(ctx, []broker.Move{move}); err != nil {
		t.Fatal(err)
	}
	same("of a pool that has moved", record("b", move), moved)
	same("of its old name", record("a"), broker.Followed{Pool: "a"})

	if err := w.b.ForgetFollowed(ctx, pools("b", "image"), pools("b", "image")); err != nil {
		t.Fatal(err)
	}
	same("of a pool that goes on", record("b"), moved)
	if err := w.b.ForgetFollowed(ctx, nil, pools("b")); err != nil {
		t.Fatal(err)
	}
	same("of one that follows nothing any more", record("b"), broker.Followed{Pool: "b"})
	if err := w.b.NoteFollowed(ctx, second, moved); err != nil {
		t.Fatal(err)
	}
	if err := w.b.ForgetFollowed(ctx, pools("b", "image"), pools("c", "image")); err != nil {
		t.Fatal(err)
	}
	same("of one that is no more", record("b"), broker.Followed{Pool: "b"})
}
