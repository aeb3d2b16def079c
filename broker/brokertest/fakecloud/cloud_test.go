package fakecloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// clock is a cloud's time. It stands still until it is told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// call does one call of the HTTP API, and gives the class of its error, "" for
// none, Unreachable where there is no answer.
func call(t *testing.T, c *fakecloud.Cloud, method, path string, in, out any) fakecloud.Class {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // a used connection would be tried again
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return fakecloud.Unreachable
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var apiErr fakecloud.Error
		if err := json.NewDecoder(resp.Body).Decode(&apiErr); err != nil || apiErr.Code == "" || apiErr.Message == "" {
			t.Fatalf("%s %s: %s with %+v, %v", method, path, resp.Status, apiErr, err)
		}
		return apiErr.Code
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
	return ""
}

func create(t *testing.T, c *fakecloud.Cloud, name string, tags ...string) fakecloud.Instance {
	t.Helper()
	var i fakecloud.Instance
	request := fakecloud.Request{Name: name, Size: "small", Tags: map[string]string{}}
	for _, tag := range tags {
		request.Tags[tag] = "yes"
	}
	if class := call(t, c, "POST", "/instances", request, &i); class != "" {
		t.Fatalf("create %s: %s", name, class)
	}
	return i
}

// listed gives the names in a listing, and whether it says that it is complete.
func listed(t *testing.T, c *fakecloud.Cloud, query string) (names []string, complete bool) {
	t.Helper()
	complete = true
	for after := ""; ; {
		var page fakecloud.Page
		if class := call(t, c, "GET", "/instances?"+query+"&after="+url.QueryEscape(after), nil, &page); class != "" {
			t.Fatalf("list: %s", class)
		}
		for _, i := range page.Instances {
			names = append(names, i.Name)
		}
		complete = complete && page.Complete
		if after = page.Next; after == "" {
			return names, complete
		}
	}
}

func TestLifeOfAnInstance(t *testing.T) {
	clock := newClock()
	c := fakecloud.Start(t, fakecloud.Config{Now: clock.Now})
	made := create(t, c, "one", "a", "b")
	want := fakecloud.Instance{
		Request: fakecloud.Request{Name: "one", Size: "small", Tags: map[string]string{"a": "yes", "b": "yes"}},
		ID:      made.ID, State: fakecloud.Running, Address: "10.0.0.1", SSHPort: 22, CreatedAt: clock.Now(),
	}
	var read fakecloud.Instance
	if class := call(t, c, "GET", "/instances/"+made.ID, nil, &read); class != "" {
		t.Fatal(class)
	}
	for what, got := range map[string]fakecloud.Instance{"created": made, "read": read, "truth": c.Instances()[0]} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	c.Instances()[0].Tags["a"] = "changed"
	if c.Instances()[0].Tags["a"] != "yes" {
		t.Error("Instances gives no copies")
	}

	for _, want := range []fakecloud.Class{"", fakecloud.NotFound} {
		if got := call(t, c, "DELETE", "/instances/"+made.ID, nil, nil); got != want {
			t.Errorf("delete: %q, want %q", got, want)
		}
	}
	if got := call(t, c, "GET", "/instances/"+made.ID, nil, nil); got != fakecloud.NotFound {
		t.Errorf("read of a deleted one: %q", got)
	}
	if left := c.Instances(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	calls := map[fakecloud.Operation]int{}
	for _, op := range []fakecloud.Operation{fakecloud.Create, fakecloud.Read, fakecloud.Delete, fakecloud.List} {
		calls[op] = c.Calls(op)
	}
	if diff := cmp.Diff(map[fakecloud.Operation]int{"create": 1, "read": 2, "delete": 2, "list": 0}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestKill(t *testing.T) {
	c := fakecloud.Start(t, fakecloud.Config{})
	i := create(t, c, "one")
	if !c.Kill(i.ID) || c.Kill(i.ID) || c.Kill("i-none") {
		t.Error("Kill tells wrongly whether the instance existed")
	}
	if got := call(t, c, "GET", "/instances/"+i.ID, nil, nil); got != fakecloud.NotFound || len(c.Instances()) > 0 {
		t.Errorf("read of a killed one: %q", got)
	}
}

func TestListing(t *testing.T) {
	c := fakecloud.Start(t, fakecloud.Config{})
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		tags := []string{"all", "is" + name}
		if name > "2" {
			tags = append(tags, "late")
		}
		create(t, c, name, tags...)
	}
	for _, test := range []struct{ query, want string }{
		{"", "1 2 3 4 5"},
		{"limit=2", "1 2 3 4 5"},
		{"limit=5", "1 2 3 4 5"},
		{"tag=late%3Dyes", "3 4 5"},
		{"tag=late%3Dyes&tag=is4%3Dyes&limit=1", "4"},
		{"tag=late%3Dno", ""},
		{"tag=none%3D", ""},
	} {
		before := c.Calls(fakecloud.List)
		names, complete := listed(t, c, test.query)
		if got := strings.Join(names, " "); got != test.want || !complete {
			t.Errorf("list %q: %q, complete %t; want %q", test.query, got, complete, test.want)
		}
		if pages := c.Calls(fakecloud.List) - before; test.query == "limit=2" && pages != 3 {
			t.Errorf("%d pages, want 3", pages)
		}
	}
	for _, query := range []string{"limit=0", "limit=x", "tag=late"} {
		if got := call(t, c, "GET", "/instances?"+query, nil, nil); got != fakecloud.InvalidConfiguration {
			t.Errorf("list %q: %q", query, got)
		}
	}

	c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.PartialListing}}})
	if names, complete := listed(t, c, ""); strings.Join(names, " ") != "1 2" || complete {
		t.Errorf("partial: %v, complete %t", names, complete)
	}
}

func TestListingIsEventuallyConsistent(t *testing.T) {
	clock := newClock()
	c := fakecloud.Start(t, fakecloud.Config{Now: clock.Now, Faults: fakecloud.Faults{ListingLag: 10 * time.Second}})
	want := func(when, want string) {
		t.Helper()
		if names, _ := listed(t, c, ""); strings.Join(names, " ") != want {
			t.Errorf("%s: %v, want %q", when, names, want)
		}
	}
	one := create(t, c, "one")
	want("at once", "")
	clock.advance(10 * time.Second)
	want("after the lag", "one")
	c.Kill(one.ID)
	create(t, c, "two")
	want("just killed", "one")
	clock.advance(9 * time.Second)
	short := create(t, c, "short")
	c.Kill(short.ID)
	want("still", "one")
	clock.advance(time.Second)
	want("after the lag again", "two")
	if names := len(c.Instances()); names != 1 {
		t.Errorf("%d instances in truth, want 1", names)
	}
}

func TestBoot(t *testing.T) {
	clock := newClock()
	c := fakecloud.Start(t, fakecloud.Config{Now: clock.Now, Faults: fakecloud.Faults{
		BootTime: time.Minute, Failures: []fakecloud.Failure{{Class: fakecloud.NeverBoots, Times: 1}},
	}})
	create(t, c, "never")
	create(t, c, "slow")
	c.SetFaults(fakecloud.Faults{})
	create(t, c, "fast")
	for _, want := range [][]fakecloud.State{
		{fakecloud.Pending, fakecloud.Pending, fakecloud.Running},
		{fakecloud.Pending, fakecloud.Running, fakecloud.Running},
	} {
		var got []fakecloud.State
		for _, i := range c.Instances() {
			got = append(got, i.State)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		clock.advance(time.Minute)
	}
}

func TestQuota(t *testing.T) {
	c := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Quota: 2}})
	one := create(t, c, "one")
	create(t, c, "two")
	request := fakecloud.Request{Name: "three"}
	if got := call(t, c, "POST", "/instances", request, nil); got != fakecloud.QuotaExceeded || len(c.Instances()) != 2 {
		t.Errorf("third of 2: %q", got)
	}
	c.Kill(one.ID)
	if got := call(t, c, "POST", "/instances", request, nil); got != "" {
		t.Errorf("second of 2: %q", got)
	}
}

func TestRateLimit(t *testing.T) {
	clock := newClock()
	c := fakecloud.Start(t, fakecloud.Config{Now: clock.Now, Faults: fakecloud.Faults{RateLimit: 2, Burst: 3}})
	attempts := func(want int) {
		t.Helper()
		passed := 0
		for range 5 {
			switch got := call(t, c, "GET", "/instances", nil, nil); got {
			case "":
				passed++
			case fakecloud.Throttled:
			default:
				t.Fatal(got)
			}
		}
		if passed != want {
			t.Errorf("%d of 5 calls passed, want %d", passed, want)
		}
	}
	attempts(3)
	c.SetFaults(c.Faults()) // fills no bucket
	attempts(0)
	clock.advance(time.Second)
	attempts(2)
	c.SetFaults(fakecloud.Faults{})
	attempts(5)
}

func TestFailures(t *testing.T) {
	type failures = []fakecloud.Failure
	all := []fakecloud.Class{
		fakecloud.Throttled, fakecloud.InsufficientCapacity, fakecloud.QuotaExceeded, fakecloud.AuthFailure,
		fakecloud.InvalidConfiguration, fakecloud.NotFound, fakecloud.Unreachable,
	}
	c := fakecloud.Start(t, fakecloud.Config{})
	request := fakecloud.Request{Name: "one"}
	for _, class := range all {
		for _, late := range []bool{false, true} {
			before := len(c.Instances())
			c.SetFaults(fakecloud.Faults{Failures: failures{{Operation: fakecloud.Create, Class: class, Times: 2, Late: late}}})
			for n, want := range []fakecloud.Class{class, class, ""} {
				if n == 1 {
					if got := call(t, c, "GET", "/instances", nil, nil); got != "" {
						t.Errorf("list: %q", got)
					}
				}
				if got := call(t, c, "POST", "/instances", request, nil); got != want {
					t.Errorf("%s, call %d: %q, want %q", class, n, got, want)
				}
			}
			want := 1
			if late {
				want = 3
			}
			if got := len(c.Instances()) - before; got != want {
				t.Errorf("%s, late %t: %d instances made, want %d", class, late, got, want)
			}
		}
	}

	c.SetFaults(fakecloud.Faults{Failures: failures{
		{Class: fakecloud.DependencyViolation, Times: 1}, {Operation: fakecloud.Delete, Class: fakecloud.Throttled, Times: 1},
	}})
	id := c.Instances()[0].ID
	for n, want := range []fakecloud.Class{fakecloud.DependencyViolation, fakecloud.Throttled, "", fakecloud.NotFound} {
		if got := call(t, c, "POST", "/instances", request, nil); got != "" {
			t.Errorf("create meets %s", got)
		}
		if got := call(t, c, "DELETE", "/instances/"+id, nil, nil); got != want {
			t.Errorf("delete %d: %q, want %q", n, got, want)
		}
	}
}

func TestFailuresAtARate(t *testing.T) {
	run := func(seed uint64) (sequence string) {
		c := fakecloud.Start(t, fakecloud.Config{Seed: seed, Faults: fakecloud.Faults{
			Failures: []fakecloud.Failure{{Class: fakecloud.Throttled, Rate: 0.3}, {Class: fakecloud.Unreachable, Rate: 0.3}},
		}})
		for range 60 {
			sequence += string(append([]rune(call(t, c, "GET", "/instances", nil, nil)), '.')[0])
		}
		return sequence
	}
	first := run(1)
	for _, outcome := range []string{"T", "U", "."} {
		if n := strings.Count(first, outcome); n < 5 || n > 40 {
			t.Errorf("%q %d times of 60: %s", outcome, n, first)
		}
	}
	if again := run(1); again != first {
		t.Errorf("the same seed gives\n%s, then\n%s", first, again)
	}
	if other := run(2); other == first {
		t.Error("another seed gives the same failures")
	}
}

// A caller that hangs is let go by its own timeout, or by Close.
func TestTimeout(t *testing.T) {
	c := fakecloud.New(fakecloud.Config{Faults: fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.Timeout, Late: true}}}})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL()+"/instances", strings.NewReader(`{"name": "one"}`))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
			t.Errorf("got %v", err)
		}
	})
	eventually(t, "the effect", func() bool { return len(c.Instances()) == 1 })
	cancel()
	wg.Wait()

	wg.Go(func() {
		if got := call(t, c, "GET", "/instances", nil, nil); got != fakecloud.Unreachable {
			t.Errorf("a call in a cloud that closes: %q", got)
		}
	})
	eventually(t, "the second call", func() bool { return c.Calls(fakecloud.List) == 1 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestLatency(t *testing.T) {
	c := fakecloud.New(fakecloud.Config{Faults: fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: time.Hour}}})
	answered := make(chan fakecloud.Class, 1)
	go func() { answered <- call(t, c, "POST", "/instances", fakecloud.Request{Name: "one"}, nil) }()
	eventually(t, "the effect", func() bool { return len(c.Instances()) == 1 })
	if got, _ := listed(t, c, ""); len(got) != 1 {
		t.Errorf("listed %v", got)
	}
	select {
	case <-answered:
		t.Error("the create was answered at once")
	default:
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	<-answered
}

func TestAdmin(t *testing.T) {
	c := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.Unreachable}}}})
	want := fakecloud.Faults{
		Latency: map[fakecloud.Operation]time.Duration{fakecloud.List: time.Millisecond}, Quota: 3,
		Failures: []fakecloud.Failure{{Operation: fakecloud.List, Class: fakecloud.AuthFailure, Times: 2}},
	}
	if class := call(t, c, "PUT", "/admin/faults", want, nil); class != "" {
		t.Fatal(class)
	}
	if class := call(t, c, "GET", "/instances", nil, nil); class != fakecloud.AuthFailure {
		t.Errorf("list: %q", class)
	}
	want.Failures[0].Times = 1
	var got fakecloud.Faults
	if class := call(t, c, "GET", "/admin/faults", nil, &got); class != "" {
		t.Fatal(class)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]any{
		"unknown field":     map[string]any{"quotas": 3},
		"unknown class":     fakecloud.Faults{Failures: []fakecloud.Failure{{Class: "Throttle"}}},
		"unknown operation": fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: "creates", Class: fakecloud.Throttled}}},
		"never met":         fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.Create, Class: fakecloud.DependencyViolation}}},
		"unknown latency":   fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{"creates": 1}},
	} {
		if class := call(t, c, "PUT", "/admin/faults", bad, nil); class != fakecloud.InvalidConfiguration {
			t.Errorf("%s: %q", name, class)
		}
	}
	if diff := cmp.Diff(want, c.Faults()); diff != "" {
		t.Errorf("faults after bad ones (-want +got):\n%s", diff)
	}
}

func TestInvalidRequests(t *testing.T) {
	c := fakecloud.Start(t, fakecloud.Config{})
	for _, request := range []any{nil, fakecloud.Request{}, map[string]any{"name": 3}, fakecloud.Request{Name: "one", SSH: true}} {
		if got := call(t, c, "POST", "/instances", request, nil); got != fakecloud.InvalidConfiguration {
			t.Errorf("create %+v: %q", request, got)
		}
	}
	if len(c.Instances()) > 0 {
		t.Error("something was made")
	}
}

// Boot and Shutdown come in pairs, whoever ends the instance, and when.
func TestBootAndShutdown(t *testing.T) {
	var mu sync.Mutex
	running := map[string]string{}
	c := fakecloud.New(fakecloud.Config{
		Boot: func(ctx context.Context, i fakecloud.Instance) (string, int, error) {
			mu.Lock()
			defer mu.Unlock()
			running[i.ID] = i.Name
			switch i.Name {
			case "broken":
				return "", 0, errors.New("no kernel")
			case "stuck":
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				return "", 0, ctx.Err()
			}
			return "127.0.0.9", 2222, nil
		},
		Shutdown: func(_ context.Context, i fakecloud.Instance) error {
			mu.Lock()
			defer mu.Unlock()
			if running[i.ID] != i.Name {
				t.Errorf("%s is shut down, but was not booted", i.Name)
			}
			delete(running, i.ID)
			if i.Name == "stuck" {
				return errors.New("no power switch")
			}
			return nil
		},
	})
	for _, name := range []string{"fine", "broken", "stuck", "left"} {
		if class := call(t, c, "POST", "/instances", fakecloud.Request{Name: name, SSH: true}, nil); class != "" {
			t.Fatal(class)
		}
	}
	create(t, c, "without")
	states := func() map[string]fakecloud.State {
		states := map[string]fakecloud.State{}
		for _, i := range c.Instances() {
			states[i.Name] = i.State
			if running := i.State == fakecloud.Running; i.SSH && running != (i.Address == "127.0.0.9" && i.SSHPort == 2222) {
				t.Errorf("%s is %s with the address %s:%d", i.Name, i.State, i.Address, i.SSHPort)
			}
		}
		return states
	}
	want := map[string]fakecloud.State{
		"fine": fakecloud.Running, "broken": fakecloud.Failed, "stuck": fakecloud.Pending, "left": fakecloud.Running, "without": fakecloud.Running,
	}
	eventually(t, "all boots", func() bool { return cmp.Equal(want, states()) })
	for _, i := range c.Instances()[:3] {
		if class := call(t, c, "DELETE", "/instances/"+i.ID, nil, nil); class != "" {
			t.Error(class)
		}
	}
	mu.Lock()
	if len(running) != 1 {
		t.Errorf("running after deletes: %v", running)
	}
	mu.Unlock()
	if err := c.Close(); err == nil || !strings.Contains(err.Error(), "no power switch") {
		t.Errorf("Close gives %v", err)
	}
	if len(running) > 0 || len(c.Instances()) > 0 {
		t.Errorf("running after Close: %v", running)
	}
}
