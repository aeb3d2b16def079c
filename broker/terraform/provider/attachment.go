package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// attachment is a run that uses the host, with a server for each provider.
type attachment struct {
	run     Run
	journal *journal
	log     *slog.Logger
	// mismatch is called when the run's configuration is not that of the others.
	mismatch func()
	// cancelCalls gives up the changes that are under way.
	cancelCalls context.CancelFunc

	servers []*grpc.Server
	serving sync.WaitGroup
	ended   int // looks since the run was seen to have ended
}

// reattach is an entry of TF_REATTACH_PROVIDERS.
type reattach struct {
	Protocol        string
	ProtocolVersion int
	Pid             int
	Test            bool // keeps Terraform from killing the process at its end
	Addr            struct{ Network, String string }
}

// attach begins to serve a run on sockets whose paths begin with prefix.
func attach(ctx context.Context, run Run, prefix string, plugins []*plugin, log *slog.Logger, mismatch func()) (*attachment, map[string]reattach, error) {
	j, err := openJournal(run.Journal)
	if err != nil {
		return nil, nil, err
	}
	// The changes of a run that has died go on.
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &attachment{run: run, journal: j, log: log, mismatch: mismatch, cancelCalls: cancel}
	entries := map[string]reattach{}
	for i, p := range plugins {
		path := fmt.Sprintf("%s.%d", prefix, i)
		var lc net.ListenConfig
		listener, err := lc.Listen(ctx, "unix", path)
		if err != nil {
			a.close()
			return nil, nil, err
		}
		server := grpc.NewServer(
			grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32),
			grpc.SharedWriteBuffer(true), grpc.UnknownServiceHandler(a.relay(callCtx, p)))
		a.servers = append(a.servers, server)
		a.serving.Go(func() { _ = server.Serve(listener) }) // until close
		entry := reattach{Protocol: "grpc", ProtocolVersion: p.version, Pid: os.Getpid(), Test: true}
		entry.Addr.Network, entry.Addr.String = "unix", path
		entries[p.address] = entry
	}
	return a, entries, nil
}

// close ends what the run was given: sockets, connections, the journal's file.
func (a *attachment) close() {
	for _, server := range a.servers {
		server.Stop() // removes its socket
	}
	a.serving.Wait()
	a.cancelCalls()
	_ = a.journal.file.Close() // each entry was written at once
}

// hasEnded tells whether the run is over. Where that can't be known it is not.
func (a *attachment) hasEnded() bool {
	alive, err := Locked(a.run.Output)
	return err == nil && !alive
}

// relay gives what serves the calls of a run to a provider.
func (a *attachment) relay(callCtx context.Context, p *plugin) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		full, _ := grpc.MethodFromServerStream(stream)
		service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		switch service {
		case "plugin.GRPCController": // shut down
			return answer(stream, func(message) (message, error) { return message{}, nil })
		case "plugin.GRPCStdio", "plugin.GRPCBroker":
			// The output is the host's to read, and the broker is for plugins that
			// call back, which providers don't. Terraform does without both.
			return status.Error(codes.Unimplemented, "not relayed to shared providers")
		}
		switch method {
		case "Stop", "StopProvider":
			return answer(stream, func(message) (message, error) { return message{}, nil })
		case "GetSchema", "GetProviderSchema", "GetResourceIdentitySchemas":
			return answer(stream, func(request message) (message, error) { return p.schema(callCtx, full, request) })
		case "Configure", "ConfigureProvider":
			return answer(stream, func(request message) (message, error) { return a.configure(callCtx, p, full, request) })
		case "ApplyResourceChange":
			return answer(stream, func(request message) (message, error) { return a.change(callCtx, p, full, request) })
		}
		return forward(stream, p, full)
	}
}

// answer serves a call of one message each way.
func answer(stream grpc.ServerStream, call func(message) (message, error)) error {
	var request message
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	m, err := call(request)
	if err != nil {
		return err
	}
	return stream.SendMsg(&m)
}

func (a *attachment) configure(ctx context.Context, p *plugin, method string, request message) (message, error) {
	m, ok, err := p.configure(ctx, method, request)
	if ok || err != nil {
		return m, err
	}
	a.mismatch()
	return refusal("Invalid configuration of a shared provider",
		"The process of provider "+p.address+" serves runs whose configuration differs from this one's, and has one configuration only. "+
			"The provider block depends on something that is not the same for all nodes of the pool. "+
			"Remove provider_sharing from the pool, or what differs from the provider block."), nil
}

// change passes a change on, and keeps the answer to a create.
func (a *attachment) change(ctx context.Context, p *plugin, method string, request message) (message, error) {
	// The lock first, then the look: whoever finds the run ended and the journal
	// free may rely on it that nothing is begun any more.
	if err := a.journal.begin(); err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	defer a.journal.end()
	if a.hasEnded() {
		return nil, status.Error(codes.Canceled, "the run has ended")
	}
	m, err := p.invoke(ctx, method, request)
	if err != nil || !isNull(field(request, changePriorState).bytes) || isNull(field(m, changedState).bytes) {
		return m, err
	}
	kind := string(field(request, changeType).bytes)
	err = a.journal.add(entry{
		Provider: p.address, Type: kind, SchemaVersion: p.schemaVersion(kind),
		State: field(m, changedState).bytes, Private: field(m, changedPrivate).bytes,
	})
	if err != nil {
		// Terraform will most likely write it down itself.
		a.log.ErrorContext(ctx, "a create can't be kept in the run's journal", "type", kind, "journal", a.run.Journal, "error", err)
	}
	return m, nil
}

// forward passes messages on both ways, however many.
func forward(stream grpc.ServerStream, p *plugin, method string) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	up, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // ends with the call
		for {
			var m message
			err := stream.RecvMsg(&m)
			if errors.Is(err, io.EOF) {
				_ = up.CloseSend() // never fails
				return
			}
			if err != nil || up.SendMsg(&m) != nil { // what is wrong is told by the receiver
				return
			}
		}
	}()
	for {
		var m message
		err := up.RecvMsg(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
}
