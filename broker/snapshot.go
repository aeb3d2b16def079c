package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SnapshotVersion is the version of a [Snapshot]'s JSON. Fields may be added
// within a major version.
const SnapshotVersion = "1.0"

// Running is what a broker runs with, as far as a plan needs it. It holds no secret.
type Running struct {
	// Root is the directory of pools.hcl. Modules are relative to it; values of
	// variables may begin with it.
	Root           string         `json:"root"`
	Pools          []Pool         `json:"pools"`
	Accounts       []Account      `json:"accounts,omitempty"`
	TenantDefaults TenantDefaults `json:"tenant_defaults"`
	// Settings are what else the file sets, in JSON, by name, such as
	// "legacy.max_wait".
	Settings map[string]json.RawMessage `json:"settings,omitempty"`
	// Runs is how many Terraform runs may be in flight at once.
	Runs int `json:"runs"`
	// Modules are those that pools are made from, by template.
	Modules map[string]Module `json:"modules,omitempty"`
	// MaskKey is what sensitive variables are masked with; absent where KeyID says
	// who knows it.
	MaskKey []byte `json:"mask_key,omitempty"`
	KeyID   string `json:"key_id,omitempty"`
}

// Snapshot is what a plan needs to know of a broker. It holds no secret.
type Snapshot struct {
	FormatVersion string    `json:"format_version"`
	At            time.Time `json:"at"`
	Running
	Nodes    []SnapshotNode     `json:"nodes"` // all that exist
	Sessions []SnapshotSession  `json:"sessions"`
	Tenants  []SnapshotTenant   `json:"tenants,omitempty"`  // active ones, without admins
	Hosts    []Host             `json:"hosts,omitempty"`    // of inventories, without failures' messages
	Health   []PoolHealth       `json:"health,omitempty"`   // without messages
	Rollouts []Rollout          `json:"rollouts,omitempty"` // without reasons
	Observed map[string]Timings `json:"observed,omitempty"` // by pool
	// Turns are by pool. A broker that starts knows none.
	Turns map[string]PoolTurn `json:"turns,omitempty"`
}

// PoolTurn tells when a pool last had a create and a destroy started, so that pools
// with equal claims take turns. Both count up together, over all pools; 0 is never.
type PoolTurn struct {
	Create  int `json:"create,omitempty"`
	Destroy int `json:"destroy,omitempty"`
}

// SnapshotNode is a node in brief.
type SnapshotNode struct {
	ID         int64     `json:"id"`
	UID        string    `json:"uid"`
	Pool       string    `json:"pool"`
	State      NodeState `json:"state"`
	Since      time.Time `json:"since"`
	CreatedAt  time.Time `json:"created_at"`
	Template   string    `json:"template"`
	Generation string    `json:"generation"`
	Account    string    `json:"account,omitempty"`
	SessionID  int64     `json:"session_id,omitempty"`
	Touched    bool      `json:"touched,omitempty"`
	Held       bool      `json:"held,omitempty"` // or to be held
	// Interrupted: it will go away by itself.
	Interrupted bool      `json:"interrupted,omitempty"`
	Attempts    int       `json:"attempts,omitempty"`
	RetryAt     time.Time `json:"retry_at,omitzero"`
	// HostID and Inventory are those of the host that it runs on, if it needs one.
	HostID    int64  `json:"host_id,omitempty"`
	Inventory string `json:"inventory,omitempty"`
}

// SnapshotSession is a session in brief.
type SnapshotSession struct {
	ID        int64        `json:"id"`
	State     SessionState `json:"state"`
	ExpiresAt time.Time    `json:"expires_at"`
	Nodes     []int64      `json:"nodes"`
}

// SnapshotTenant is a tenant in brief.
type SnapshotTenant struct {
	Name      string `json:"name"`
	NodeQuota *int   `json:"node_quota,omitempty"` // nil: the default
}

// Timings are how long work on a pool's nodes took of late; 0: not known.
type Timings struct {
	Create  time.Duration `json:"create,omitempty"`
	Check   time.Duration `json:"check,omitempty"`
	Destroy time.Duration `json:"destroy,omitempty"`
}

// Snapshot gives what a plan needs to know. CodeForbidden unless actor is an admin.
func (b *Broker) Snapshot(ctx context.Context, actor Tenant) (Snapshot, error) {
	if !actor.IsAdmin {
		return Snapshot{}, errAdminsOnly("see what the broker runs with")
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: it ends the program instead (crypto/rand)
	running, err := b.Running(key)
	if err != nil {
		return Snapshot{}, err
	}
	running.MaskKey = key
	s, err := TakeSnapshot(ctx, b.cfg.Store, b.cfg.Now(), running)
	if err == nil && b.cfg.Turns != nil {
		s.Turns = b.cfg.Turns()
	}
	return s, err
}

// SetPoolsDir says in which directory the pools' file lies that the pools are from.
func (b *Broker) SetPoolsDir(dir string) { b.poolsDir.Store(&dir) }

// SetFileSettings says what else the pools' file sets, for plans: see [Running]. The
// map must not be changed any more.
func (b *Broker) SetFileSettings(settings map[string]json.RawMessage) {
	b.fileSettings.Store(&settings)
}

// Running gives what the broker runs with, its sensitive variables masked with key.
func (b *Broker) Running(key []byte) (Running, error) {
	pools, accounts := b.cfg.Pools.File()
	r := Running{Accounts: accounts, TenantDefaults: b.TenantDefaults(), Runs: b.cfg.Runs, Modules: make(map[string]Module)}
	if dir := b.poolsDir.Load(); dir != nil {
		r.Root = *dir
	}
	if settings := b.fileSettings.Load(); settings != nil {
		r.Settings = *settings
	}
	for _, p := range pools {
		m, known := r.Modules[p.Source.Template]
		if !known && b.cfg.Modules != nil {
			var err error
			if m, err = b.cfg.Modules.ReadModule(p.Source.Template); err != nil && CodeOf(err) != CodeNotFound {
				return Running{}, Wrap(CodeInternal, err, "the module of pool %q can't be read", p.Name)
			} else if err == nil {
				r.Modules[p.Source.Template] = m
			}
		}
		p, err := Described(p, r.Root, key, m)
		if err != nil {
			return Running{}, Wrap(CodeInternal, err, "pool %q", p.Name)
		}
		r.Pools = append(r.Pools, p)
	}
	return r, nil
}

// Described gives a pool as others may see it: its sensitive variables masked, and
// its module relative to root, unless they have nothing in common.
func Described(p Pool, root string, key []byte, m Module) (Pool, error) {
	masked, err := MaskVariables(key, p.Variables, m.Sensitive)
	if err != nil {
		return p, err
	}
	p.Variables, p.Source.Variables = masked, nil
	p.Variants = slices.Clone(p.Variants)
	for i := range p.Variants {
		v := &p.Variants[i]
		if v.Variables, err = MaskVariables(key, v.Variables, m.Sensitive); err != nil {
			return p, err
		}
		v.Source.Variables = nil
	}
	p.Module = relative(root, p.Module)
	return p, nil
}

// relative gives a path as it looks from root. One that has nothing in common with
// it stays as it is.
func relative(root, path string) string {
	from, err := filepath.Rel(root, path)
	if err != nil || root == "" {
		return path
	}
	from = filepath.ToSlash(from)
	if filepath.IsLocal(from) {
		return "./" + from
	}
	up := len(strings.Split(filepath.ToSlash(filepath.Clean(root)), "/")) - 1 // steps from root to /
	if strings.HasPrefix(from, strings.Repeat("../", up)) {
		return path
	}
	return from
}

// Rebased gives a pool as it would be if pools.hcl lay in another directory: paths
// in its variables, environment and commands that begin with from begin with to.
func Rebased(p Pool, from, to string) Pool {
	if from == to || len(from) < 2 || to == "" {
		return p
	}
	replace := func(text string) string {
		var b strings.Builder
		for {
			before, after, found := strings.Cut(text, from)
			b.WriteString(before)
			if !found {
				return b.String()
			}
			end := after == "" || strings.ContainsRune("/\"' :,;\\\n", rune(after[0])) // else it is another path
			b.WriteString(map[bool]string{true: to, false: from}[end])
			text = after
		}
	}
	p.Variables = json.RawMessage(replace(string(p.Variables)))
	p.Variants = slices.Clone(p.Variants)
	for i := range p.Variants {
		p.Variants[i].Variables = json.RawMessage(replace(string(p.Variants[i].Variables)))
	}
	p.Ready.Command = replace(p.Ready.Command)
	p.Environ = maps.Clone(p.Environ)
	for name, value := range p.Environ {
		p.Environ[name] = replace(value)
	}
	return p
}

// TakeSnapshot reads what a plan needs to know of a store, in one transaction.
func TakeSnapshot(ctx context.Context, store Store, now time.Time, r Running) (s Snapshot, err error) {
	err = store.View(ctx, func(tx ReadTx) error {
		s = Snapshot{FormatVersion: SnapshotVersion, At: now, Running: r, Nodes: []SnapshotNode{}, Sessions: []SnapshotSession{}}
		nodes, err := tx.Nodes(NodeQuery{})
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.State != NodeGone {
				s.Nodes = append(s.Nodes, snapshotNode(n))
			}
		}
		if s.Hosts, err = snapshotHosts(tx); err != nil {
			return err
		}
		sessions, err := tx.Sessions(SessionQuery{States: []SessionState{SessionPreparing, SessionActive}})
		if err != nil {
			return err
		}
		for _, session := range sessions {
			brief := SnapshotSession{ID: session.ID, State: session.State, ExpiresAt: session.ExpiresAt, Nodes: []int64{}}
			for _, lent := range session.Nodes {
				brief.Nodes = append(brief.Nodes, lent.ID)
			}
			s.Sessions = append(s.Sessions, brief)
		}
		tenants, err := tx.Tenants()
		if err != nil {
			return err
		}
		for _, t := range tenants {
			if t.Active() && !t.IsAdmin {
				s.Tenants = append(s.Tenants, SnapshotTenant{t.Name, t.NodeQuota})
			}
		}
		if s.Health, err = tx.PoolHealths(); err != nil {
			return err
		}
		for i := range s.Health {
			s.Health[i].Message = ""
			s.Health[i].Variants = maps.Clone(s.Health[i].Variants)
			for name, failure := range s.Health[i].Variants {
				failure.Message = ""
				s.Health[i].Variants[name] = failure
			}
		}
		if s.Rollouts, err = tx.Rollouts(); err != nil {
			return err
		}
		for i := range s.Rollouts {
			s.Rollouts[i].Reason = ""
		}
		s.Observed, err = observe(tx, nodes)
		return err
	})
	return s, err
}

// snapshotHosts gives the hosts that are of use, or would be if they came back into
// the file.
func snapshotHosts(tx ReadTx) ([]Host, error) {
	hosts, err := tx.Hosts(HostQuery{})
	hosts = slices.DeleteFunc(hosts, func(h Host) bool { return h.State() == HostRetired && h.Inventory == APIInventory })
	for i := range hosts {
		hosts[i].Failure = ""
	}
	return hosts, err
}

func snapshotNode(n Node) SnapshotNode {
	s := SnapshotNode{
		ID: n.ID, UID: n.UID, Pool: n.Pool, State: n.State, Since: n.Since, CreatedAt: n.CreatedAt,
		Template: n.Source.Template, Generation: n.Source.Generation, Account: n.Account,
		SessionID: n.SessionID, Touched: n.Touched, Held: n.Hold != nil, Interrupted: n.Interruption != nil, Attempts: n.Attempts, RetryAt: n.RetryAt,
	}
	if n.Host != nil {
		s.HostID, s.Inventory = n.Host.ID, n.Host.Inventory
	}
	return s
}

const (
	// observedNodes is how many of a pool's newest nodes are looked at for timings.
	observedNodes = 20
	// observedTimes is how many of each kind are enough.
	observedTimes = 9
)

// observe finds out how long work on the nodes of each pool took of late.
func observe(tx ReadTx, nodes []Node) (map[string]Timings, error) {
	type samples struct {
		looked                 int
		create, check, destroy []time.Duration
	}
	pools := make(map[string]*samples)
	for _, n := range slices.Backward(nodes) {
		s := pools[n.Pool]
		if s == nil {
			s = new(samples)
			pools[n.Pool] = s
		}
		if s.looked++; s.looked > observedNodes {
			continue
		}
		runs, err := tx.Runs(n.ID)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			took := r.Ended.Sub(r.Began)
			switch {
			case r.Class != "" || took < 0:
			case r.Operation == "apply":
				s.create = append(s.create, took)
				if n.State == NodeReady && n.SessionID == 0 && !n.Since.Before(r.Ended) {
					s.check = append(s.check, n.Since.Sub(r.Ended))
				}
			case r.Operation == "destroy":
				s.destroy = append(s.destroy, took)
			}
		}
	}
	observed := make(map[string]Timings)
	for name, s := range pools {
		t := Timings{Create: median(s.create), Check: median(s.check), Destroy: median(s.destroy)}
		if t != (Timings{}) {
			observed[name] = t
		}
	}
	return observed, nil
}

// median gives the middle one of the newest, to the second above, 0 of none.
func median(samples []time.Duration) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	newest := slices.Sorted(slices.Values(samples[:min(len(samples), observedTimes)]))
	return (newest[len(newest)/2] + time.Second - 1).Truncate(time.Second)
}
