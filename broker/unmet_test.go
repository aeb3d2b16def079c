package broker_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// What a request was refused for lack of nodes counts as waited for, for a minute.
func TestUnmet(t *testing.T) {
	w := newWorld(t, 2)
	ask := func(who broker.Tenant, want broker.Code, specs ...broker.NodesSpec) {
		t.Helper()
		_, err := w.b.RequestSession(t.Context(), who, broker.SessionRequest{Specs: specs})
		if got := broker.CodeOf(err); got != want {
			t.Fatalf("request of %s for %v: %v, want %q", who.Name, specs, err, want)
		}
	}
	check := func(what string, at time.Time, want map[string]int) {
		t.Helper()
		if diff := cmp.Diff(want, w.b.Unmet(at)); diff != "" {
			t.Errorf("%s: nodes waited for (-want +got):\n%s", what, diff)
		}
	}
	spec := func(pool string, quantity int) broker.NodesSpec {
		return broker.NodesSpec{Pool: pool, Quantity: quantity}
	}
	check("at first", t0, map[string]int{})
	ask(w.admin, broker.CodeCapacity, spec("small", 1), spec("large", 3), spec("small", 1))
	check("all or nothing: all of it waits", t0, map[string]int{"small": 2, "large": 3})
	ask(w.admin, broker.CodeCapacity, spec("large", 3))
	check("a second try is no second request", t0, map[string]int{"small": 2, "large": 3})
	ask(w.demo, broker.CodeCapacity, spec("large", 4))
	check("but another tenant's is", t0, map[string]int{"small": 2, "large": 7})
	ask(w.other, broker.CodeQuota, spec("plain", 3))
	ask(w.admin, broker.CodeCapacity, spec("plain", 1), spec("nowhere", 1))
	check("nothing waits for what no stock would help", t0, map[string]int{"small": 2, "large": 7})
	ask(w.admin, "", spec("small", 1))
	check("who was served waits no more", t0, map[string]int{"large": 7})
	check("nor does who was refused long ago", t0.Add(time.Minute), map[string]int{})
	check("and it is forgotten", t0, map[string]int{})
	ask(w.admin, broker.CodeCapacity, spec("large", math.MaxInt), spec("large", math.MaxInt))
	check("however much is asked for", t0, map[string]int{"large": math.MaxInt32})
}
