package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/api/client"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// operatorName stands in events for whoever can write the data directory, and so
// may do everything.
const operatorName = "operator on the data directory"

// connection is a client, and what stands behind it.
type connection struct {
	*client.Client

	off *offline // nil: a broker that runs
}

// end ends the connection and gives up what is behind it, after a command that
// came to err; it gives that and its own errors.
func (c connection) end(err error) error {
	if c.off == nil {
		return err
	}
	err = errors.Join(err, c.off.close())
	if err == nil && c.off.woken.Load() {
		_, _ = fmt.Fprintln(c.off.err, "duffy-broker: recorded in the data directory; what follows from it is done when the broker is started")
	}
	return err
}

// connect gives a client of the broker that the settings name, or of the data
// directory of one that does not run. The caller ends it.
func (o *clientOptions) connect(ctx context.Context, s streams) (connection, error) {
	if o.dataDir == "" {
		if o.keyFile != "" || o.pools != "" {
			return connection{}, broker.Errorf(broker.CodeInvalid, "--key-file and --pools go with --data-dir").
				WithHint("a running broker has read both; name its data directory to work on that while it is stopped")
		}
		c, _, err := o.client()
		return connection{Client: c}, err
	}
	off := &offline{streams: s, log: slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	c, err := off.open(ctx, o)
	if err != nil {
		return connection{}, errors.Join(err, off.close())
	}
	return connection{Client: c, off: off}, nil
}

// needsBroker refuses on a data directory what only a running broker can do.
func (o *clientOptions) needsBroker(what, why string) error {
	if o.dataDir == "" {
		return nil
	}
	return errNeedsBroker(what, why)
}

func errNeedsBroker(what, why string) *broker.Error {
	return broker.Errorf(broker.CodeConflict, "%s needs a running broker: %s", what, why).
		WithHint("start the broker, and leave --data-dir out")
}

// offline is the data directory of a broker that does not run, and the API on it:
// the same handlers, on a connection that does not leave the process. No loop
// runs; what is asked of one is recorded, and the next start carries it out.
type offline struct {
	streams
	log *slog.Logger

	dir       *dataDir
	store     *bolt.Store
	server    *http.Server
	transport *http.Transport
	serving   sync.WaitGroup
	stopping  chan struct{}
	woken     atomic.Bool // there is something for the loop to do
}

// open fills off. The caller closes it, also after an error.
func (off *offline) open(ctx context.Context, o *clientOptions) (*client.Client, error) {
	dir, err := openExistingDataDir(o.dataDir)
	if broker.CodeOf(err) == broker.CodeConflict {
		return nil, errBrokerRuns(o.dataDir, err)
	}
	if err != nil {
		return nil, err
	}
	off.dir = dir
	k, err := openKeyring(ctx, dir, o.keyFile)
	if err != nil {
		return nil, err
	}
	off.store = k.store
	engine := terraform.New(terraform.Config{Dir: dir.path, Keyring: k.keys, Log: off.log})
	b := broker.New(broker.Config{
		Store: k.store, Keys: k.keys, Pools: new(broker.PoolSet), Logs: engine, Workspaces: engine,
		Log: off.log, Now: time.Now, Wake: func() { off.woken.Store(true) },
	})
	if o.pools != "" {
		file, err := readPools(off.streams, o.pools)
		if err != nil {
			return nil, err
		}
		b.SetTenantDefaults(file.TenantDefaults)
	}
	if _, err := b.Identity(ctx); err != nil {
		return nil, err
	}
	off.stopping = make(chan struct{})
	off.server = api.NewServer(api.New(api.Config{Broker: offlineBroker{b}, Log: off.log, Version: version(), Stopping: off.stopping}))
	listener := newPipeListener()
	off.serving.Go(func() { _ = off.server.Serve(listener) }) // ends by Shutdown alone
	off.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.Dial(ctx) },
	}
	// Host, name and key only have to be there.
	return client.New(client.Config{
		URL: "http://data-dir", Tenant: operatorName, Key: "none", HTTPClient: &http.Client{Transport: off.transport},
	})
}

func (off *offline) close() error {
	var errs []error
	if off.server != nil {
		close(off.stopping)
		off.transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		errs = append(errs, fmtErr("end the requests", off.server.Shutdown(ctx)))
		off.serving.Wait()
	}
	if off.store != nil {
		errs = append(errs, fmtErr("close the store", off.store.Close()))
	}
	if off.dir != nil {
		errs = append(errs, off.dir.Close())
	}
	return errors.Join(errs...)
}

// errBrokerRuns says how to reach the broker that holds a data directory.
func errBrokerRuns(path string, taken error) error {
	h := holderOf(path)
	err := broker.Wrap(broker.CodeConflict, taken, "--data-dir works on the directory of a broker that does not run")
	if h.URL == "" {
		return err.WithHint("leave --data-dir out to ask the broker itself; if it is just starting, or another command is at work there, try again")
	}
	return err.WithHint("leave --data-dir out to ask the broker itself, at --url %s; or stop it first (kill %d)", h.URL, h.PID)
}

// offlineBroker are the use cases where no loop runs, and where everybody who gets
// here is the operator.
type offlineBroker struct{ *broker.Broker }

// Authenticate lets the only caller that there can be in, as an admin.
func (offlineBroker) Authenticate(context.Context, string, string) (broker.Tenant, error) {
	return broker.Tenant{Name: operatorName, IsAdmin: true}, nil
}

// RequestSession refuses: nobody would put keys on the nodes.
func (offlineBroker) RequestSession(context.Context, broker.Tenant, broker.SessionRequest) (broker.Session, error) {
	return broker.Session{}, errNeedsBroker("a session", "nothing else puts the tenant's key on the nodes")
}

// HoldNode does not wait for a loop that does not run.
func (b offlineBroker) HoldNode(ctx context.Context, actor broker.Tenant, id int64, reason string) (broker.Node, error) {
	return b.AskForHold(ctx, actor, id, reason)
}

// OpenWorkspace refuses: it is the broker that knows which Terraform fits.
func (offlineBroker) OpenWorkspace(context.Context, broker.Tenant, int64, string) (broker.Node, string, error) {
	return broker.Node{}, "", errNeedsBroker("a workspace", "it holds the node when nothing is done to it, and knows which Terraform fits")
}

// NodeLog refuses to follow a log.
func (b offlineBroker) NodeLog(ctx context.Context, actor broker.Tenant, req broker.NodeLogRequest, write func([]byte) error) error {
	if req.Follow {
		return errNeedsBroker("following a log", "only it reads the runs in flight")
	}
	return b.Broker.NodeLog(ctx, actor, req, write)
}
