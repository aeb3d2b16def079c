package broker

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"
)

// NodeIdentities tells nodes by what only they and the provisioner know.
type NodeIdentities interface {
	// VerifyToken tells whether a token is that of a node, in a time that depends on
	// neither.
	VerifyToken(n Node, token string) bool
	// BootURL gives where a node finds what it boots from, without a slash at its end,
	// or "" for nowhere. It holds the node's token.
	BootURL(n Node) string
}

// BootFiles are what modules have left for machines to boot from.
type BootFiles interface {
	// OpenBootFile opens a file of a node by its name, with slashes. CodeNotFound for
	// whatever is not a regular file, or is reached by a link.
	OpenBootFile(n Node, name string) (BootFile, error)
	// Booted tells whether the node has called home.
	Booted(n Node) (bool, error)
	// ReportBoot tells the module that the node has called home. The first report
	// counts. CodeConflict if the module keeps nothing that it could be told by.
	ReportBoot(n Node, r BootReport) error
}

// BootFile is an open file.
type BootFile interface {
	io.ReadSeekCloser
	Stat() (fs.FileInfo, error)
}

// BootReport is what a machine says when it has been installed.
type BootReport struct {
	At       time.Time `json:"at"`
	Address  string    `json:"ipaddr"` // from where it called, "" if that is not known
	HostKeys []string  `json:"ssh_host_keys"`
}

const (
	// maxBootHostKeys and maxBootHostKey bound what a machine may say of its keys: a
	// machine has one of each of four kinds, and an RSA key of 16,384 bits is the
	// longest that OpenSSH makes.
	maxBootHostKeys = 16
	maxBootHostKey  = 4096
)

// NodeOfToken gives the node that a token belongs to. CodeUnauthorized for a token
// of none, or of one that is gone.
func (b *Broker) NodeOfToken(ctx context.Context, token string) (n Node, err error) {
	stranger := Errorf(CodeUnauthorized, "this is not the token of a node").WithHint("a node's module has it as broker.token")
	uid, _, found := strings.Cut(token, "-")
	if b.cfg.Identities == nil || !found {
		return Node{}, stranger
	}
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		n, err = tx.NodeByUID(uid)
		return err
	})
	if CodeOf(err) == CodeNotFound || err == nil && (n.State.IsTerminal() || !b.cfg.Identities.VerifyToken(n, token)) {
		return Node{}, stranger
	}
	return n, err
}

// beingMade lists the states in which a machine may be booting for the first time.
func beingMade() []NodeState { return []NodeState{NodePlanned, NodeApplying, NodeChecking} }

// mayBoot gives CodeForbidden if a node has been made, or has called home.
func (b *Broker) mayBoot(n Node) error {
	over := func(why string) error {
		return Errorf(CodeForbidden, "node %d %s: it gets no boot files any more", n.ID, why).
			WithHint("they are there while the node is being made, until it calls home")
	}
	making := false
	for _, s := range beingMade() {
		making = making || n.State == s
	}
	if !making {
		return over("is " + string(n.State))
	}
	booted, err := b.cfg.BootFiles.Booted(n)
	if err != nil {
		return err
	}
	if booted {
		return over("has called home")
	}
	return nil
}

// OpenBootFile opens a file for a node to boot from, as [BootFiles] does.
// CodeForbidden once the node has called home, or is not being made any more.
// address is from where it was asked for; the log tells.
func (b *Broker) OpenBootFile(ctx context.Context, n Node, name, address string) (BootFile, error) {
	if err := b.mayBoot(n); err != nil {
		return nil, err
	}
	f, err := b.cfg.BootFiles.OpenBootFile(n, name)
	if err != nil {
		return nil, err
	}
	b.cfg.Log.InfoContext(ctx, "a machine boots: it fetches a file", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "file", name, "address", address)
	return f, nil
}

// ReportBoot hears that a machine has been installed, and tells the module of its
// node. From then on the node gets no boot files. Repeating it changes nothing.
//
// Errors: CodeInvalid for host keys that are none; CodeForbidden if the node is not
// being made; CodeConflict as of [BootFiles].
func (b *Broker) ReportBoot(ctx context.Context, n Node, r BootReport) error {
	keys, err := bootHostKeys(r.HostKeys)
	if err != nil {
		return err
	}
	r.HostKeys, r.At = keys, b.cfg.Now()
	booted, err := b.cfg.BootFiles.Booted(n)
	if booted || err != nil {
		return err // a repeated call, whose answer was lost
	}
	if err := b.mayBoot(n); err != nil {
		return err
	}
	if err := b.cfg.BootFiles.ReportBoot(n, r); err != nil {
		return err
	}
	b.cfg.Log.InfoContext(ctx, "a machine has booted: it calls home", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "address", r.Address)
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		return tx.AppendEvent(&Event{
			At: r.At, Kind: EventNode, Pool: n.Pool, NodeID: n.ID, From: string(n.State), To: string(n.State),
			Message: "it has booted, and calls home from " + r.Address,
		})
	})
}

// bootHostKeys checks host keys, and leaves out what follows a key.
func bootHostKeys(texts []string) ([]string, error) {
	refuse := func(format string, args ...any) ([]string, error) {
		return nil, Errorf(CodeInvalid, "ssh_host_keys: %s", fmt.Sprintf(format, args...)).
			WithHint(`each is as in a file /etc/ssh/ssh_host_*_key.pub: "ssh-ed25519 AAAA..."`)
	}
	if len(texts) > maxBootHostKeys {
		return refuse("there are %d of them, and no machine has more than %d", len(texts), maxBootHostKeys)
	}
	keys := make([]string, 0, len(texts))
	for i, text := range texts {
		fields := strings.Fields(text)
		if len(fields) < 2 || len(text) > maxBootHostKey || strings.ContainsAny(strings.TrimSpace(text), "\r\n") || !strings.HasPrefix(fields[1], "AAAA") {
			return refuse("element %d is no public key", i)
		}
		keys = append(keys, fields[0]+" "+fields[1])
	}
	return keys, nil
}

// BootByMAC gives where the machine with a network card is to boot from: the URL of
// the node that is being made on the host with that address, see
// [NodeIdentities.BootURL]; "" for every other machine. CodeInvalid for an address
// that is none. Whoever can ask this gets the boot files of that node.
func (b *Broker) BootByMAC(ctx context.Context, mac, address string) (url string, err error) {
	card, err := net.ParseMAC(mac)
	if err != nil {
		return "", Errorf(CodeInvalid, "%q is no MAC address", mac).WithHint("write it as 52:54:00:12:34:56 or 52-54-00-12-34-56")
	}
	if b.cfg.Identities == nil {
		return "", nil
	}
	var nodes []Node
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		nodes, err = tx.Nodes(NodeQuery{States: beingMade()})
		return err
	})
	if err != nil {
		return "", err
	}
	var found []Node
	for _, n := range nodes {
		if n.Host != nil && n.Host.MAC == card.String() && b.mayBoot(n) == nil {
			found = append(found, n)
		}
	}
	if len(found) != 1 { // a card is of one host, and a host of one node
		return "", nil
	}
	n := found[0]
	url = b.cfg.Identities.BootURL(n)
	if url != "" {
		b.cfg.Log.InfoContext(ctx, "a machine boots: it asks for its node", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "mac", card.String(), "address", address)
	}
	return url, nil
}
