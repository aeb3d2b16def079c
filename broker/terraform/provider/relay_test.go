package provider

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const prefix6 = "/tfplugin6.Provider/"

// upstream stands in for a provider.
type upstream struct {
	mu      sync.Mutex
	calls   []string
	answers map[string]func(ctx context.Context, request message) (message, error)
}

// answer sets what a method answers.
func (u *upstream) answer(method string, f func(ctx context.Context, request message) (message, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers[method] = f
}

func (u *upstream) serve(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	method = strings.TrimPrefix(method, prefix6)
	var request message
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	u.mu.Lock()
	u.calls = append(u.calls, method)
	f := u.answers[method]
	u.mu.Unlock()
	if method == "ListResource" {
		for _, m := range []message{message("1"), message("2"), message("3")} {
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
		return nil
	}
	if f == nil {
		f = func(_ context.Context, request message) (message, error) {
			return append(message("echo "), request...), nil
		}
	}
	m, err := f(stream.Context(), request)
	if err != nil {
		return err
	}
	return stream.SendMsg(&m)
}

// called gives the methods that were called since the last time.
func (u *upstream) called() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := u.calls
	u.calls = nil
	return calls
}

// newUpstream starts a provider and gives the plugin that leads to it.
func newUpstream(t *testing.T) (*upstream, *plugin) {
	t.Helper()
	u := &upstream{answers: map[string]func(context.Context, message) (message, error){}}
	socket := filepath.Join(t.TempDir(), "up")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.UnknownServiceHandler(u.serve))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	conn, err := dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
	})
	return u, &plugin{address: "example.com/ns/p", version: 6, conn: conn, exited: make(chan struct{})}
}

// attached is a run, with the connection that its Terraform has.
type attached struct {
	*attachment

	conn      *grpc.ClientConn
	output    *os.File
	mismatchs int
}

// attachRun attaches a run that is alive until its output is closed.
func attachRun(t *testing.T, p *plugin) *attached {
	t.Helper()
	dir := t.TempDir()
	a := &attached{output: lockedFile(t, filepath.Join(dir, "output"))}
	run := Run{Output: a.output.Name(), Journal: filepath.Join(dir, "journal")}
	attachment, entries, err := attach(t.Context(), run, filepath.Join(dir, "s"), []*plugin{p}, slog.New(slog.DiscardHandler), func() { a.mismatchs++ })
	if err != nil {
		t.Fatal(err)
	}
	a.attachment = attachment
	want := reattach{Protocol: "grpc", ProtocolVersion: 6, Pid: os.Getpid(), Test: true}
	want.Addr.Network, want.Addr.String = "unix", filepath.Join(dir, "s.0")
	if diff := cmp.Diff(map[string]reattach{"example.com/ns/p": want}, entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if a.conn, err = dial("unix", want.Addr.String); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.conn.Close()
		a.close()
		if _, err := os.Lstat(want.Addr.String); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return a
}

func lockedFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := flock(f, syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return f
}

func (a *attached) call(t *testing.T, method string, request message) (message, error) {
	t.Helper()
	var m message
	return m, a.conn.Invoke(t.Context(), method, &request, &m)
}

func (a *attached) must(t *testing.T, method string, request message) message {
	t.Helper()
	m, err := a.call(t, method, request)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return m
}

func wantCalls(t *testing.T, u *upstream, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, u.called()); diff != "" {
		t.Errorf("calls that reached the provider (-want +got):\n%s", diff)
	}
}

func TestRelayPassesCallsOn(t *testing.T) {
	u, p := newUpstream(t)
	a := attachRun(t, p)
	if got := a.must(t, prefix6+"ReadResource", message("x")); string(got) != "echo x" {
		t.Errorf("got %q", got)
	}
	u.answer("PlanResourceChange", func(context.Context, message) (message, error) {
		return nil, status.Error(codes.ResourceExhausted, "too much")
	})
	if _, err := a.call(t, prefix6+"PlanResourceChange", nil); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "too much") {
		t.Errorf("got %v", err)
	}
	stream, err := a.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, prefix6+"ListResource")
	if err != nil {
		t.Fatal(err)
	}
	request := message("x")
	if err := errors.Join(stream.SendMsg(&request), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		var m message
		if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m))
	}
	if diff := cmp.Diff([]string{"1", "2", "3"}, got); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
	wantCalls(t, u, "ReadResource", "PlanResourceChange", "ListResource")
}

// What Terraform sends to the process as a whole is not passed on.
func TestRelayKeepsTheProcess(t *testing.T) {
	u, p := newUpstream(t)
	a := attachRun(t, p)
	for _, method := range []string{prefix6 + "StopProvider", "/tfplugin5.Provider/Stop", shutdownMethod} {
		if got := a.must(t, method, nil); len(got) > 0 {
			t.Errorf("%s: %q", method, got)
		}
	}
	for _, method := range []string{stdioMethod, "/plugin.GRPCBroker/StartStream"} {
		if _, err := a.call(t, method, nil); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	wantCalls(t, u)
}

func TestSchemasAreAskedForOnce(t *testing.T) {
	u, p := newUpstream(t)
	first, second := attachRun(t, p), attachRun(t, p)
	u.answer("GetProviderSchema", func(context.Context, message) (message, error) {
		return nil, status.Error(codes.Internal, "not yet")
	})
	if _, err := first.call(t, prefix6+"GetProviderSchema", nil); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	u.answer("GetProviderSchema", func(context.Context, message) (message, error) { return message("schema"), nil })
	for _, a := range []*attached{first, second, first} {
		if got := a.must(t, prefix6+"GetProviderSchema", nil); string(got) != "schema" {
			t.Errorf("got %q", got)
		}
	}
	wantCalls(t, u, "GetProviderSchema", "GetProviderSchema")
}

// configurationOf makes a request as Terraform does.
func configurationOf(config string, capabilities uint64) message {
	return join(text(1, []byte("1.11.4")), text(2, text(dynamicMsgpack, []byte(config))), text(3, number(1, capabilities)))
}

func TestOneConfiguration(t *testing.T) {
	u, p := newUpstream(t)
	first, second := attachRun(t, p), attachRun(t, p)
	const configure = prefix6 + "ConfigureProvider"
	denied := refusal("Denied", "")
	u.answer("ConfigureProvider", func(context.Context, message) (message, error) { return denied, nil })
	if got := first.must(t, configure, configurationOf("a", 0)); configured(got) {
		t.Error("an error of the provider is not passed on")
	}
	warning := join(text(configureDiagnostics, number(diagnosticSeverity, 2)))
	u.answer("ConfigureProvider", func(context.Context, message) (message, error) { return warning, nil })
	// An error does not configure it: another configuration may come.
	for _, a := range []*attached{first, second, first} {
		for _, capabilities := range []uint64{0, 1} { // of the plan, of the apply
			if got := a.must(t, configure, configurationOf("b", capabilities)); string(got) != string(warning) {
				t.Errorf("got %q", got)
			}
		}
	}
	wantCalls(t, u, "ConfigureProvider", "ConfigureProvider")
	got := second.must(t, configure, configurationOf("c", 0))
	if configured(got) || !strings.Contains(string(got), "Invalid configuration of a shared provider") || !strings.Contains(string(got), "example.com/ns/p") {
		t.Errorf("another configuration is answered with %q", got)
	}
	if first.mismatchs != 0 || second.mismatchs != 1 {
		t.Errorf("%d and %d mismatches, want none and 1", first.mismatchs, second.mismatchs)
	}
	wantCalls(t, u)
}

var (
	null   = text(dynamicMsgpack, []byte{0xc0})
	object = text(dynamicMsgpack, []byte{0x81, 0xa2, 'i', 'd', 0xa2, 'i', '1'})
)

func change(prior []byte) message {
	return join(text(changeType, []byte("vm")), text(changePriorState, prior))
}

func TestCreatesAreKept(t *testing.T) {
	u, p := newUpstream(t)
	a := attachRun(t, p)
	schema := join(text(schemasOfResources, join(text(mapKey, []byte("vm")), text(mapValue, number(schemaVersion, 7)))))
	u.answer("GetProviderSchema", func(context.Context, message) (message, error) { return schema, nil })
	a.must(t, prefix6+"GetProviderSchema", nil)
	for name, tt := range map[string]struct {
		prior, after []byte
		want         []Resource
	}{
		"update":         {prior: object, after: object},
		"destroy":        {prior: object, after: null},
		"failed create":  {prior: null, after: null},
		"nothing at all": {},
		"create": {prior: null, after: object, want: []Resource{
			{Provider: "example.com/ns/p", Type: "vm", SchemaVersion: 7, Attributes: []byte(`{"id":"i1"}`), Private: []byte("secret")},
		}},
	} {
		if err := os.Truncate(a.run.Journal, 0); err != nil {
			t.Fatal(err)
		}
		after := join(text(changedState, tt.after), text(changedPrivate, []byte("secret")))
		u.answer("ApplyResourceChange", func(context.Context, message) (message, error) { return after, nil })
		if got := a.must(t, prefix6+"ApplyResourceChange", change(tt.prior)); string(got) != string(after) {
			t.Errorf("%s: got %q", name, got)
		}
		got, err := ReadJournal(a.run.Journal)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: journal (-want +got):\n%s", name, diff)
		}
	}
}

func TestChangesOutliveTheirTerraform(t *testing.T) {
	u, p := newUpstream(t)
	a := attachRun(t, p)
	began, proceed := make(chan struct{}), make(chan struct{})
	u.answer("ApplyResourceChange", func(ctx context.Context, _ message) (message, error) {
		close(began)
		select {
		case <-proceed:
			return join(text(changedState, object)), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error)
	go func() {
		request, m := change(null), message(nil)
		returned <- a.conn.Invoke(ctx, prefix6+"ApplyResourceChange", &request, &m)
	}()
	<-began
	cancel() // Terraform has died
	if err := <-returned; status.Code(err) != codes.Canceled {
		t.Errorf("the call gave %v", err)
	}
	_ = a.output.Close()
	if busy, err := Locked(a.run.Journal); !busy || err != nil {
		t.Errorf("the journal is not locked during a change: %v", err)
	}
	h := &host{runs: []*attachment{a.attachment}, log: slog.New(slog.DiscardHandler)}
	if attached, _ := h.look(); attached != 1 {
		t.Error("the host lets go of a run with a change under way")
	}
	close(proceed)
	waitFor(t, "the end of the change", func() bool { busy, _ := Locked(a.run.Journal); return !busy })
	if made, err := ReadJournal(a.run.Journal); len(made) != 1 || err != nil {
		t.Errorf("journal: %v, %v", made, err)
	}

	// Nothing begins after the end.
	u.called()
	if _, err := a.call(t, prefix6+"ApplyResourceChange", change(null)); status.Code(err) != codes.Canceled {
		t.Errorf("a change of an ended run: %v", err)
	}
	wantCalls(t, u)
	waitFor(t, "the host to let go of it", func() bool { attached, _ := h.look(); return attached == 0 })
}

// A provider that never answers does not keep its host for ever.
func TestChangesAreGivenUp(t *testing.T) {
	u, p := newUpstream(t)
	a := attachRun(t, p)
	began := make(chan struct{})
	u.answer("ApplyResourceChange", func(ctx context.Context, _ message) (message, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var calling sync.WaitGroup
	calling.Go(func() { _, _ = a.call(t, prefix6+"ApplyResourceChange", change(null)) })
	<-began
	_ = a.output.Close()
	h := &host{runs: []*attachment{a.attachment}, log: slog.New(slog.DiscardHandler)}
	for range giveUpLooks - 1 {
		if attached, _ := h.look(); attached != 1 {
			t.Fatal("the host lets go of a run with a change under way")
		}
	}
	if a.journal.busy() == false {
		t.Fatal("the change has ended already")
	}
	waitFor(t, "the host to give up", func() bool { attached, _ := h.look(); return attached == 0 })
	calling.Wait()
}
