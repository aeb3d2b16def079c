package broker_test

import (
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// bootDesk stands in for the engine: tokens are "UID-token", and every file is there.
type bootDesk struct {
	booted map[string]broker.BootReport
	opened []string
	file   broker.BootFile
}

func (bootDesk) VerifyToken(n broker.Node, token string) bool { return token == n.UID+"-token" }
func (bootDesk) BootURL(n broker.Node) string                 { return "http://192.0.2.9/boot/" + n.UID + "-token" }

func (d bootDesk) Booted(n broker.Node) (bool, error) {
	_, ok := d.booted[n.UID]
	return ok, nil
}

func (d *bootDesk) OpenBootFile(_ broker.Node, name string) (broker.BootFile, error) {
	d.opened = append(d.opened, name)
	return d.file, nil
}

func (d bootDesk) ReportBoot(n broker.Node, r broker.BootReport) error {
	d.booted[n.UID] = r
	return nil
}

type noFile struct{ broker.BootFile }

func (noFile) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// bootWorld is a broker with one node in each state, which all run on hosts with
// the MAC address 52:54:00:00:00:NN, NN being the node's id in hex.
func bootWorld(t *testing.T) (b *broker.Broker, d *bootDesk, store broker.Store, nodes []broker.Node, log *strings.Builder) {
	t.Helper()
	d = &bootDesk{booted: map[string]broker.BootReport{}, file: noFile{}}
	store = memory.New()
	for i, state := range broker.NodeStates() {
		n := broker.NewNode(testPool("metal", broker.ContextualizeSSH), t0)
		n.State = state
		n.Host = &broker.NodeHost{ID: int64(i) + 100, Name: "host", MAC: "52:54:00:00:00:0" + string("123456789abcdef"[i])}
		update(t, store, func(tx broker.Tx) error { return tx.CreateNode(&n) })
		nodes = append(nodes, n)
	}
	log = new(strings.Builder)
	b = broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, Pools: new(broker.PoolSet), Log: slog.New(slog.NewTextHandler(log, nil)),
		Now: func() time.Time { return t0 }, Wake: func() {}, Identities: d, BootFiles: d,
	})
	return b, d, store, nodes, log
}

// The right to boot begins and ends with the making of the node.
func TestBootRights(t *testing.T) {
	b, d, store, nodes, log := bootWorld(t)
	for _, n := range nodes {
		found, err := b.NodeOfToken(t.Context(), n.UID+"-token")
		if n.State == broker.NodeGone {
			if broker.CodeOf(err) != broker.CodeUnauthorized {
				t.Errorf("the token of a node that is gone: %v", err)
			}
			continue
		}
		if err != nil || found.ID != n.ID {
			t.Fatalf("token of node %d: %d, %v", n.ID, found.ID, err)
		}
		making := n.State == broker.NodePlanned || n.State == broker.NodeApplying || n.State == broker.NodeChecking
		_, openErr := b.OpenBootFile(t.Context(), found, "boot.ipxe", "192.0.2.7")
		url, macErr := b.BootByMAC(t.Context(), strings.ToUpper(n.Host.MAC), "192.0.2.7")
		reportErr := b.ReportBoot(t.Context(), found, broker.BootReport{Address: "192.0.2.7", HostKeys: []string{"ssh-ed25519 AAAA root@host", "ssh-rsa AAAAB"}})
		if !making {
			if broker.CodeOf(openErr) != broker.CodeForbidden || broker.CodeOf(reportErr) != broker.CodeForbidden || url != "" || macErr != nil {
				t.Errorf("%s: file %v, report %v, script %q %v", n.State, openErr, reportErr, url, macErr)
			}
			continue
		}
		if openErr != nil || reportErr != nil || url != d.BootURL(n) || macErr != nil {
			t.Errorf("%s: file %v, report %v, script %q %v", n.State, openErr, reportErr, url, macErr)
		}
		want := broker.BootReport{At: t0, Address: "192.0.2.7", HostKeys: []string{"ssh-ed25519 AAAA", "ssh-rsa AAAAB"}}
		if diff := cmp.Diff(want, d.booted[n.UID]); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
		// It has called home.
		if _, err := b.OpenBootFile(t.Context(), found, "boot.ipxe", ""); broker.CodeOf(err) != broker.CodeForbidden {
			t.Errorf("%s: a file after that: %v", n.State, err)
		}
		if url, err := b.BootByMAC(t.Context(), n.Host.MAC, ""); url != "" || err != nil {
			t.Errorf("%s: the script after that: %q, %v", n.State, url, err)
		}
		if err := b.ReportBoot(t.Context(), found, broker.BootReport{Address: "192.0.2.8"}); err != nil || d.booted[n.UID].Address != "192.0.2.7" {
			t.Errorf("%s: the same once more: %v, %+v", n.State, err, d.booted[n.UID])
		}
	}
	if len(d.opened) != 3 {
		t.Errorf("opened %v", d.opened)
	}
	var events []string
	err := store.View(t.Context(), func(tx broker.ReadTx) error {
		all, err := tx.Events(0, 100)
		for _, e := range all {
			events = append(events, e.To+": "+e.Message)
		}
		return err
	})
	if diff := cmp.Diff([]string{
		"planned: it has booted, and calls home from 192.0.2.7", "applying: it has booted, and calls home from 192.0.2.7", "checking: it has booted, and calls home from 192.0.2.7",
	}, events); diff != "" || err != nil {
		t.Errorf("events (-want +got):\n%s%v", diff, err)
	}
	if text := log.String(); strings.Contains(text, "-token") || strings.Count(text, "file=boot.ipxe") != 3 || strings.Count(text, "mac=52:54:00:00:00:0") != 3 {
		t.Errorf("log:\n%s", text)
	}
}

func TestBootTokens(t *testing.T) {
	b, _, _, nodes, _ := bootWorld(t)
	for _, bad := range []string{"", "-", nodes[0].UID, nodes[0].UID + "-", nodes[0].UID + "-other", "nobody-token", nodes[1].UID[:4] + "-token"} {
		if n, err := b.NodeOfToken(t.Context(), bad); broker.CodeOf(err) != broker.CodeUnauthorized || n.ID != 0 {
			t.Errorf("token %q: node %d, %v", bad, n.ID, err)
		}
	}
}

func TestBootByMAC(t *testing.T) {
	b, d, store, nodes, _ := bootWorld(t)
	for mac, want := range map[string]string{
		"52:54:00:00:00:02": d.BootURL(nodes[1]), "52-54-00-00-00-02": d.BootURL(nodes[1]),
		"52:54:00:00:00:ff": "", "00:00:00:00:00:00": "",
	} {
		if got, err := b.BootByMAC(t.Context(), mac, ""); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", mac, got, err, want)
		}
	}
	for _, bad := range []string{"", "x", "52:54:00:00:00", "52:54:00:00:00:02:"} {
		if _, err := b.BootByMAC(t.Context(), bad, ""); broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// Two nodes on one card can't be: none of them gets anything.
	again := broker.NewNode(testPool("metal", broker.ContextualizeSSH), t0)
	again.Host = nodes[1].Host
	update(t, store, func(tx broker.Tx) error { return tx.CreateNode(&again) })
	if got, err := b.BootByMAC(t.Context(), nodes[1].Host.MAC, ""); err != nil || got != "" {
		t.Errorf("two nodes: %q, %v", got, err)
	}
}

func TestBootReportHostKeys(t *testing.T) {
	b, d, _, nodes, _ := bootWorld(t)
	for _, bad := range [][]string{{""}, {"ssh-ed25519"}, {"ssh-ed25519 BBBB"}, {"ssh-ed25519 AAAA\nssh-rsa AAAA"}, {"ssh-ed25519 AAAA" + strings.Repeat("A", 5000)}, make([]string, 17)} {
		if err := b.ReportBoot(t.Context(), nodes[1], broker.BootReport{HostKeys: bad}); broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if len(d.booted) > 0 {
		t.Errorf("reported: %v", d.booted)
	}
}
