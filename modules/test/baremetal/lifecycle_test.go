// Package baremetal_test proves modules/bare-metal with machines that are virtual,
// behind controllers that are emulated: from power-on to SSH, through the real
// broker. The machines boot as real ones do: firmware, PXE, iPXE, and what the broker
// serves.
package baremetal_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ipmi"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/redfish"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/vm"
)

func TestMain(m *testing.M) { os.Exit(live.Main(m)) }

// hostInGuest is where a guest of QEMU's user network finds the loopback address of
// the machine.
const hostInGuest = "10.0.2.2"

// box is a machine: a domain that boots from its network card, if its controller says
// so, by the iPXE that QEMU's cards have in their ROM.
type box struct {
	t       *testing.T
	l       *vm.Libvirt
	name    string
	address string // SSH is forwarded from here
	port    string
	mac     string
	broker  string // host and port of the API

	mu     sync.Mutex
	booted []string
}

func newBox(t *testing.T, l *vm.Libvirt, name, address, mac, brokerPort string) *box {
	t.Helper()
	return &box{t: t, l: l, name: name, address: address, port: freePort(t, address), mac: mac, broker: net.JoinHostPort(hostInGuest, brokerPort)}
}

func (b *box) power(on bool, source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !on {
		if _, err := b.l.TryVirsh("destroy", b.name); err != nil {
			b.t.Errorf("%s goes off: %v", b.name, err)
		}
		return
	}
	b.booted = append(b.booted, source)
	boot := "" // from its disk, and it has none
	if source == "pxe" {
		boot = ",bootindex=1"
	}
	domain := fmt.Sprintf(`<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
<name>%s</name><memory unit="MiB">512</memory><os><type arch="x86_64" machine="pc">hvm</type></os>
<devices><serial type="file"><source path=%q/></serial></devices>
<qemu:commandline><qemu:arg value="-netdev"/><qemu:arg value="user,id=n,bootfile=http://%s/boot/mac/${net0/mac},hostfwd=tcp:%s:%s-:22"/>
<qemu:arg value="-device"/><qemu:arg value="virtio-net-pci,netdev=n,addr=0x1e,mac=%s%s"/></qemu:commandline></domain>`,
		b.name, b.console(), b.broker, b.address, b.port, b.mac, boot)
	path := filepath.Join(b.l.Images, b.name+".xml")
	if err := os.WriteFile(path, []byte(domain), 0o600); err != nil {
		b.t.Error(err)
		return
	}
	if _, err := b.l.TryVirsh("create", path); err != nil {
		b.t.Errorf("%s goes on: %v", b.name, err)
	}
}

func (b *box) console() string { return filepath.Join(b.l.Images, b.name+".console") }

func (b *box) boots() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.booted...)
}

func freePort(t *testing.T, address string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// controller is what tests ask the emulators.
type controller interface {
	On() bool
	Tag() string
}

func TestFromPowerOnToSSH(t *testing.T) {
	for _, program := range []string{"terraform", "qemu-system-x86_64"} {
		brokertest.NeedProgram(t, program)
	}
	l := vm.Start(t)
	image := vm.Guest(t, "x86_64")
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, map[string]string{"/vmlinuz": image.Kernel, "/initrd": image.Initrd}[r.URL.Path])
	}))
	defer mirror.Close()
	_, mirrorPort, _ := net.SplitHostPort(mirror.Listener.Addr().String())
	brokerPort := freePort(t, "127.0.0.1")

	boxes := map[string]*box{
		"redfish": newBox(t, l, "redfish", "127.0.31.1", "52:54:00:31:00:01", brokerPort),
		"ipmi":    newBox(t, l, "ipmi", "127.0.31.2", "52:54:00:31:00:02", brokerPort),
	}
	fish := redfish.New(t, redfish.Options{OnPower: func(on bool, b redfish.Boot) { boxes["redfish"].power(on, strings.ToLower(b.Target)) }})
	lan := ipmi.New(t, ipmi.Options{OnPower: boxes["ipmi"].power})
	controllers := map[string]controller{"redfish": fish, "ipmi": lan}
	addresses := map[string]string{"redfish": fish.URL(), "ipmi": lan.Address()}
	fish.SetTag("rack 4")

	text := ""
	for kind, b := range boxes {
		prefix := strings.ToUpper(kind)
		text += fmt.Sprintf(`
inventory %[1]q {
  host "box-%[1]s" {
    ipaddr      = %[2]q
    mac         = %[3]q
    bmc         = { address = %[4]q, kind = %[1]q }
    credentials = { %[5]s_USERNAME = "env:TEST_%[5]s_USERNAME", %[5]s_PASSWORD = "env:TEST_%[5]s_PASSWORD" }
  }
}
pool %[1]q {
  module     = %[6]q
  inventory  = %[1]q
  fill_level = 1
  ready {
    timeout = "3m"
  }
  variables = {
    installer   = "cloud-init"
    kernel      = "http://%[7]s:%[8]s/vmlinuz"
    initrd      = ["http://%[7]s:%[8]s/initrd"]
    kernel_args = %[9]s
    user_data   = "#!/bin/sh\necho yes > /run/ours\nwget -q -O /dev/null --post-data= {boot}/done\n"
    ssh_port    = %[10]s
  }
}
`, kind, b.address, b.mac, addresses[kind], prefix, filepath.Join(providers.Root(t), "modules", "bare-metal"), hostInGuest, mirrorPort,
			`["`+strings.Join(strings.Fields(image.Cmdline), `", "`)+`"]`, b.port)
	}
	b := live.New(t, text)
	b.Args = []string{"--listen", "127.0.0.1:" + brokerPort, "--node-url", "http://" + net.JoinHostPort(hostInGuest, brokerPort)}
	b.Env = append(b.Env, "PATH="+filepath.Dir(lan.Tool())+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"TEST_REDFISH_USERNAME="+fish.Username, "TEST_REDFISH_PASSWORD="+fish.Password, "TEST_IPMI_USERNAME="+ipmi.Username, "TEST_IPMI_PASSWORD="+ipmi.Password)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for kind, box := range boxes {
			console, _ := os.ReadFile(box.console())
			t.Logf("the console of %s:\n%s", kind, console)
		}
	})
	begin := time.Now()
	b.Start()

	sessions := map[string]live.Session{}
	for kind, box := range boxes {
		b.Ready(kind, 1, 4*time.Minute)
		t.Logf("%s: from nothing to a checked node in %s", kind, time.Since(begin).Round(100*time.Millisecond))
		s := b.Request(kind, 1)
		sessions[kind] = s
		if got := strings.TrimSpace(b.SSH(s.Nodes[0], "uname -m; hostname; cat /run/ours")); got != "x86_64\nbox-"+kind+"\nyes" {
			t.Errorf("%s says %q", kind, got)
		}
		if got := strings.Join(box.boots(), " "); got != "pxe" {
			t.Errorf("%s has booted from %q, want pxe, once", kind, got)
		}
		if !strings.Contains(controllers[kind].Tag(), "duffy:") {
			t.Errorf("%s has the tag %q", kind, controllers[kind].Tag())
		}
	}
	if out, err := b.Command("node", "show", fmt.Sprint(sessions["ipmi"].Nodes[0].ID)).CombinedOutput(); err != nil || bytes.Contains(out, []byte(ipmi.Password)) {
		t.Errorf("node show: %v\n%s", err, out)
	}
	for _, s := range sessions {
		b.Retire(s)
	}
	b.Drain(2 * time.Minute)
	for kind, c := range controllers {
		if want := map[string]string{"redfish": "rack 4", "ipmi": ""}[kind]; c.On() || strings.TrimSpace(c.Tag()) != want {
			t.Errorf("%s is on: %t, its tag %q; want off and %q", kind, c.On(), c.Tag(), want)
		}
	}
	if left := l.Domains(); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	for _, secret := range []string{fish.Password, ipmi.Password} {
		if strings.Contains(b.Log(), `"`+secret+`"`) {
			t.Errorf("the log has the password %q", secret)
		}
	}
}
