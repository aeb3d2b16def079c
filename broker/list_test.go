package broker_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestFindSessions(t *testing.T) {
	w := newWorld(t, 10)
	var ids []int64
	for _, actor := range []broker.Tenant{w.demo, w.other, w.demo, w.demo, w.demo} {
		ids = append(ids, w.request(actor, want("plain", 1)).ID)
	}
	for _, id := range ids[2:4] {
		if _, err := w.b.UpdateSession(t.Context(), w.demo, id, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		actor broker.Tenant
		f     broker.SessionFilter
		want  []int64
	}{
		"own":               {w.demo, broker.SessionFilter{}, []int64{1, 5}},
		"all":               {w.admin, broker.SessionFilter{}, []int64{1, 2, 5}},
		"ended":             {w.demo, broker.SessionFilter{Ended: true}, []int64{3, 4}},
		"of a tenant":       {w.admin, broker.SessionFilter{Tenant: "other"}, []int64{2}},
		"by id":             {w.admin, broker.SessionFilter{Tenant: "2"}, []int64{1, 5}},
		"of nobody":         {w.admin, broker.SessionFilter{Tenant: "nobody"}, nil},
		"own by name":       {w.demo, broker.SessionFilter{Tenant: "demo"}, []int64{1, 5}},
		"of another tenant": {w.demo, broker.SessionFilter{Tenant: "other"}, nil},
		"a page":            {w.admin, broker.SessionFilter{Limit: 2}, []int64{1, 2}},
		"the next one":      {w.admin, broker.SessionFilter{Limit: 2, After: 2}, []int64{5}},
		"own page":          {w.demo, broker.SessionFilter{Ended: true, Limit: 1, After: 3}, []int64{4}},
	}
	for name, test := range tests {
		list, err := w.b.FindSessions(t.Context(), test.actor, test.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, s := range list {
			got = append(got, s.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFindNodes(t *testing.T) {
	w := newWorld(t, 3) // small 1-3, large 4-6, plain 7-9
	w.request(w.demo, want("plain", 1, "small", 2))
	w.request(w.other, want("small", 1))
	ready, deployed := []broker.NodeState{broker.NodeReady}, []broker.NodeState{broker.NodeDeployed}
	tests := map[string]struct {
		actor broker.Tenant
		f     broker.NodeFilter
		want  []int64
	}{
		"own":       {w.demo, broker.NodeFilter{}, []int64{1, 2, 7}},
		"all":       {w.admin, broker.NodeFilter{}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"ready":     {w.admin, broker.NodeFilter{States: ready}, []int64{4, 5, 6, 8, 9}},
		"own ready": {w.demo, broker.NodeFilter{States: ready}, nil},
		"own pool":  {w.demo, broker.NodeFilter{Pool: "plain", States: deployed}, []int64{7}},
		"pool":      {w.admin, broker.NodeFilter{Pool: "plain", States: ready}, []int64{8, 9}},
		"a page":    {w.admin, broker.NodeFilter{Limit: 2, After: 5}, []int64{6, 7}},
		"own page":  {w.demo, broker.NodeFilter{Limit: 1, After: 1}, []int64{2}},
	}
	for name, test := range tests {
		list, err := w.b.FindNodes(t.Context(), test.actor, test.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, n := range list {
			got = append(got, n.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSessionEvents(t *testing.T) {
	w := newWorld(t, 2)
	s := w.request(w.demo, want("plain", 1))
	w.request(w.other, want("plain", 1))
	var got []string
	events, err := w.b.SessionEvents(t.Context(), w.demo, s.ID, 0, 0)
	for _, e := range events {
		got = append(got, e.From+" "+e.To)
	}
	if diff := cmp.Diff([]string{"ready reserved", "reserved deployed", "preparing active"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	page, err := w.b.SessionEvents(t.Context(), w.demo, s.ID, events[0].Seq, 1)
	if err != nil || !slices.Equal(page, events[1:2]) {
		t.Errorf("a page: %v, %v", page, err)
	}
	if _, err := w.b.SessionEvents(t.Context(), w.other, s.ID, 0, 0); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("of another tenant: %v", err)
	}
	if _, err := w.b.SessionEvents(t.Context(), w.admin, 99, 0, 0); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("of an unknown session: %v", err)
	}
}

// Events are read in parts; what is not for the reader makes no gap.
func TestEventsInParts(t *testing.T) {
	w := newWorld(t, 0)
	err := w.store.Update(t.Context(), func(tx broker.Tx) error {
		for range 1200 {
			if err := tx.AppendEvent(&broker.Event{Kind: broker.EventNode}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.addReady(testPool("plain", broker.ContextualizeNone))
	s := w.request(w.demo, want("plain", 1))
	for _, actor := range []broker.Tenant{w.admin, w.demo} {
		var all []broker.Event
		after := int64(0)
		for {
			events, last, err := w.b.Events(t.Context(), actor, after)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, events...)
			if last <= after {
				break
			}
			after = last
		}
		last, err := w.b.LastEvent(t.Context())
		if err != nil || after != last {
			t.Errorf("read up to %d of %d, %v", after, last, err)
		}
		for _, e := range all {
			if !actor.IsAdmin && e.SessionID != s.ID {
				t.Errorf("demo sees %+v", e)
			}
		}
		if wantAll := int(last); actor.IsAdmin && len(all) != wantAll || !actor.IsAdmin && len(all) != 3 {
			t.Errorf("%s sees %d events of %d", actor.Name, len(all), last)
		}
	}
}
