package duffyprovider_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/bmc"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ipmi"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/redfish"
)

func claim(brokerID, node string) string { return bmc.NewClaim(brokerID, node).String() }

// callHomeAt lets a machine that boots from the network call home.
func callHomeAt(m machine, w *workspace, answer string) (boots func() []string) {
	var mu sync.Mutex
	var all []string
	m.onPower(func(on bool, source string) {
		if !on {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, source)
		if _, err := w.callsHome(answer); err != nil {
			all = append(all, err.Error())
		}
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// wantGone fails the test unless the machine is off, and its tag what it was.
func wantGone(t *testing.T, m machine, tag string) {
	t.Helper()
	if m.On() || strings.TrimSpace(m.Tag()) != tag {
		t.Errorf("the machine is on: %t, its tag %q; want off and %q", m.On(), m.Tag(), tag)
	}
}

// wipesFrom makes the machine call started when it boots from source, do what it is
// booted for, and switch itself off. That takes long enough for its controller to be
// asked meanwhile. What is switched off before that has done nothing: it must not
// switch off what the machine boots next.
func wipesFrom(m machine, source string, started func()) {
	var off *time.Timer
	m.onPower(func(on bool, from string) {
		switch {
		case on && from == source:
			started()
			off = time.AfterFunc(wipeTime, func() { m.Switch(false) })
		case !on && off != nil:
			off.Stop()
		}
	})
}

// wipeTime is how long a machine takes to wipe itself.
const wipeTime = 2 * time.Second

func TestLifecycle(t *testing.T) {
	machines(t, func(t *testing.T, m machine) {
		m.SetTag("rack 4")
		m.Switch(true) // whatever it was doing
		w := newWorkspace(t, m, brokerA, nodeID(1))
		boots := callHomeAt(m, w, `{"ssh_host_keys": ["ssh-ed25519 AAAA"]}`)
		if out, err := w.apply(); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		if got := boots(); len(got) != 1 || got[0] != "pxe" {
			t.Errorf("the machine has booted %q, want once from pxe", got)
		}
		if got, want := m.Tag(), "rack 4 "+claim(brokerA, nodeID(1)); !m.On() || got != want {
			t.Errorf("the machine is on: %t, its tag %q, want %q", m.On(), got, want)
		}
		if out := w.must("output", "-json", "ssh_host_keys"); !strings.Contains(out, "ssh-ed25519 AAAA") {
			t.Errorf("the host keys are %s", out)
		}
		if out := w.must("apply", "-auto-approve"); !strings.Contains(out, "No changes.") || len(boots()) != 1 {
			t.Errorf("the second apply changes something:\n%s", out)
		}
		w.destroy()
		wantGone(t, m, "rack 4")
		if _, err := os.Lstat(w.vars["directory"].(string)); !os.IsNotExist(err) {
			t.Errorf("the node's directory is left: %v", err)
		}
	})
}

// TestAnotherBrokersMachine: it is not touched, neither by a create nor by a destroy.
func TestAnotherBrokersMachine(t *testing.T) {
	machines(t, func(t *testing.T, m machine) {
		theirs := "rack 4 " + claim(brokerB, nodeID(7))
		m.SetTag(theirs)
		m.Switch(true)
		var changes []string
		m.onChange(func(what string) { changes = append(changes, what) })
		w := newWorkspace(t, m, brokerA, nodeID(1))
		out, err := w.apply()
		for _, want := range []string{"MachineClaimed: ", "begins with b0b0b0b0b0b0", nodeID(7), `set the asset tag to "rack 4"`} {
			if err == nil || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("the error has no %q: %v\n%s", want, err, out)
			}
		}
		w.destroy()
		if !m.On() || m.Tag() != theirs || len(changes) > 0 {
			t.Errorf("the machine is on: %t, its tag %q; changed was %q", m.On(), m.Tag(), changes)
		}

		// One that was ours, and that somebody has given away by hand.
		m.onChange(nil)
		m.SetTag("")
		callHomeAt(m, w, "")
		if out, err := w.apply(); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		m.SetTag(theirs)
		m.onChange(func(what string) { changes = append(changes, what) })
		if out := w.destroy(); !strings.Contains(out, "left alone") {
			t.Errorf("nothing is said of the machine:\n%s", out)
		}
		if !m.On() || m.Tag() != theirs || len(changes) > 0 {
			t.Errorf("the machine is on: %t, its tag %q; changed was %q", m.On(), m.Tag(), changes)
		}
	})
}

// TestClaimThatIsMissing: a controller that has lost its asset tag, or a tenant who
// has cleared it, does not make the broker forget a machine that runs.
func TestClaimThatIsMissing(t *testing.T) {
	machines(t, func(t *testing.T, m machine) {
		w := newWorkspace(t, m, brokerA, nodeID(1))
		callHomeAt(m, w, "")
		if out, err := w.apply(); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		m.SetTag("rack 4")
		var changes []string
		m.onChange(func(what string) { changes = append(changes, what) })
		for _, refresh := range []string{"-refresh=true", "-refresh=false"} {
			out, err := w.run("destroy", "-auto-approve", refresh)
			for _, want := range []string{"ClaimMissing: ", "rack 4 " + claim(brokerA, nodeID(1)), "duffy:000000000000"} {
				if err == nil || !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " "), want) {
					t.Errorf("%s: the error has no %q: %v\n%s", refresh, want, err, out)
				}
			}
		}
		if !m.On() || m.Tag() != "rack 4" || len(changes) > 0 {
			t.Errorf("the machine is on: %t, its tag %q; changed was %q", m.On(), m.Tag(), changes)
		}
		m.onChange(nil)
		m.SetTag("rack 4 " + claim(brokerA, nodeID(1)))
		w.destroy()
		wantGone(t, m, "rack 4")

		if out, err := w.apply(); err != nil {
			t.Fatalf("apply: %v\n%s", err, out)
		}
		m.SetTag("duffy:000000000000")
		m.onChange(func(what string) { changes = append(changes, what) })
		if out := w.destroy(); !strings.Contains(out, "left alone") || !m.On() || len(changes) > 0 {
			t.Errorf("the machine is on: %t; changed was %q\n%s", m.On(), changes, out)
		}
		if out, err := w.apply(); err == nil || !strings.Contains(out, "MachineClaimed: ") {
			t.Errorf("nobody's machine is taken: %v\n%s", err, out)
		}
	})
}

// TestCrash kills Terraform and the provider before and after each change that a
// create makes, destroys what is in the state, and makes another node on the machine.
func TestCrash(t *testing.T) {
	machines(t, func(t *testing.T, m machine) {
		steps := map[string][]string{
			"redfish": {
				"PATCH " + redfish.SystemPath, "POST " + redfish.SystemPath + "/Actions/ComputerSystem.Reset",
				"PATCH " + redfish.SystemPath, "POST " + redfish.SystemPath + "/Actions/ComputerSystem.Reset",
			},
			"ipmi": {"tag", "tag", "tag", "power 0", "boot pxe", "power 1"}, // a tag has more than 16 characters
		}
		_, kind := m.address()
		for i := range len(steps[kind]) + 1 {
			node := nodeID(100 + i)
			t.Run(fmt.Sprint("step ", i), func(t *testing.T) {
				m.Switch(true)
				w := newWorkspace(t, m, brokerA, node)
				var mu sync.Mutex
				var seen []string
				m.onChange(func(what string) {
					mu.Lock()
					defer mu.Unlock()
					if seen = append(seen, what); len(seen) == i+1 {
						w.kill() // this change is made all the same: it was on its way
					}
				})
				m.onPower(func(on bool, source string) {
					if on && source == "pxe" && i == len(steps[kind]) {
						w.kill() // while it waits
					}
				})
				out, err := w.apply()
				m.onChange(nil)
				m.onPower(nil)
				if err == nil {
					t.Fatalf("it was not killed:\n%s", out)
				}
				mu.Lock()
				got := strings.Join(seen, ", ")
				mu.Unlock()
				if want := strings.Join(steps[kind][:min(i+1, len(steps[kind]))], ", "); got != want {
					t.Errorf("changed was %s, want %s", got, want)
				}
				state, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate"))
				known := err == nil && len(state) > 0
				if known {
					w.destroy()
					wantGone(t, m, "")
				} else if _, holder, claimed := bmc.ParseTag(m.Tag()); claimed && !strings.HasPrefix(claim(brokerA, node), strings.TrimSuffix(holder.String(), ".")) {
					t.Errorf("the tag is %q", m.Tag())
				}
				if claimMade := strings.Count(strings.Join(steps[kind], " "), "tag") + 1; kind == "ipmi" && known != (i >= claimMade-1) {
					t.Errorf("in the state: %t", known)
				}

				next := newWorkspace(t, m, brokerA, nodeID(200+i))
				boots := callHomeAt(m, next, "")
				if out, err := next.apply(); err != nil {
					t.Fatalf("the next node: %v\n%s", err, out)
				}
				if got := boots(); len(got) != 1 || got[0] != "pxe" || !m.On() || m.Tag() != claim(brokerA, nodeID(200+i)) {
					t.Errorf("the next node has booted %q, is on: %t, has the tag %q", got, m.On(), m.Tag())
				}
				next.destroy()
				wantGone(t, m, "")
			})
		}
	})
}

// TestCrashOfADestroy kills it at each change that it makes, and destroys again.
func TestCrashOfADestroy(t *testing.T) {
	machines(t, func(t *testing.T, m machine) {
		for i := 0; ; i++ {
			w := newWorkspace(t, m, brokerA, nodeID(300+i))
			w.vars["wipe"] = map[string]any{"source": "pxe"}
			callHomeAt(m, w, "")
			if out, err := w.apply(); err != nil {
				t.Fatalf("apply: %v\n%s", err, out)
			}
			wiped := make(chan bool, 20)
			wipesFrom(m, "pxe", func() { wiped <- true })
			changes := 0
			m.onChange(func(string) {
				if changes++; changes == i+1 {
					w.kill()
				}
			})
			out, err := w.run("destroy", "-auto-approve", "-refresh=false")
			m.onChange(nil)
			if err == nil {
				if i < 4 {
					t.Errorf("a destroy makes %d changes only:\n%s", i, out)
				}
				wantGone(t, m, "")
				return
			}
			if state, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate")); err != nil || len(state) == 0 {
				// The broker gives the state that it has stored.
				backup, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate.backup"))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(w.dir, "terraform.tfstate"), backup, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w.destroy()
			wantGone(t, m, "")
			if len(wiped) == 0 {
				t.Errorf("killed at change %d: the machine was not wiped", i)
			}
		}
	})
}

// TestWipe: only a machine that was in use is wiped, and one that does not end with
// that is not given back.
func TestWipe(t *testing.T) {
	m := newFish(t, redfish.Options{})
	w := newWorkspace(t, m, brokerA, nodeID(1))
	w.vars["wipe"] = map[string]any{"source": "virtual_media", "url": "http://192.0.2.9/wipe.iso", "timeout": "10s"}
	w.vars["wait"] = map[string]any{"until": "call_home", "timeout": "200ms"}
	out, err := w.apply()
	if err == nil || !strings.Contains(out, "BootTimeout: ") {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	w.destroy() // not wiped: nobody had it
	wantGone(t, m, "")

	w = newWorkspace(t, m, brokerA, nodeID(2))
	w.vars["wipe"] = map[string]any{"source": "virtual_media", "url": "http://192.0.2.9/wipe.iso", "timeout": "10s"}
	callHomeAt(m, w, "")
	if out, err := w.apply(); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	images := make(chan string, 1)
	m.onPower(func(on bool, source string) {
		if on && source == "cd" {
			images <- m.Next().Image
		}
	})
	out, err = w.run("destroy", "-auto-approve")
	if err == nil || !strings.Contains(out, "WipeTimeout: ") || m.Tag() == "" {
		t.Fatalf("destroy: %v, the tag is %q\n%s", err, m.Tag(), out)
	}
	if got := <-images; got != "http://192.0.2.9/wipe.iso" {
		t.Errorf("booted is %q", got)
	}
	wipesFrom(m, "cd", func() {})
	w.destroy()
	wantGone(t, m, "")
	if got := m.Next().Image; got != "" {
		t.Errorf("in the virtual drive is %q", got)
	}
}

func TestWaitsForSSH(t *testing.T) {
	m := newFish(t, redfish.Options{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	w := newWorkspace(t, m, brokerA, nodeID(1))
	w.vars["boot"] = map[string]any{"source": "virtual_media", "url": "http://192.0.2.9/live.iso", "firmware": "uefi"}
	w.vars["wait"] = map[string]any{"until": "ssh", "address": "127.0.0.1", "port": port}
	done := make(chan struct{})
	m.onPower(func(on bool, _ string) {
		if !on {
			return
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write([]byte("SSH-2.0-test\r\n"))
				_ = c.Close()
			}
			_ = l.Close()
		}()
	})
	if out, err := w.apply(); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	<-done
	if got := m.Next().Image; got != "" {
		t.Errorf("in the virtual drive is %q after the boot", got)
	}
	w.destroy()
	wantGone(t, m, "")
}

// TestInterrupted: what an interrupt leaves is in the state.
func TestInterrupted(t *testing.T) {
	m := newFish(t, redfish.Options{})
	w := newWorkspace(t, m, brokerA, nodeID(1))
	m.onPower(func(on bool, _ string) {
		if on {
			w.interrupt()
		}
	})
	out, err := w.apply()
	if err == nil || !strings.Contains(out, "Interrupted: ") {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	if out := w.must("state", "list"); !strings.Contains(out, "duffy_machine.node") {
		t.Errorf("in the state is\n%s", out)
	}
	w.destroy()
	wantGone(t, m, "")
}

// TestWithoutAssetTag: a controller that keeps none is used only if that is said.
func TestWithoutAssetTag(t *testing.T) {
	m := newLAN(t, ipmi.Options{NoTag: true})
	w := newWorkspace(t, m, brokerA, nodeID(1))
	out, err := w.apply()
	if err == nil || !strings.Contains(out, "BMCUnsupported: ") || !strings.Contains(strings.Join(strings.Fields(out), " "), `claim = "none"`) {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	w.vars["asset_tag"] = false
	callHomeAt(m, w, "")
	if out, err := w.apply(); err != nil || !m.On() {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	w.destroy()
	wantGone(t, m, "")
}

// TestMistakes: each is found before anything is done to the machine.
func TestMistakes(t *testing.T) {
	m := newFish(t, redfish.Options{})
	for name, tt := range map[string]struct {
		variable string
		value    any
		want     string
	}{
		"a boot source that there is not": {"boot", map[string]any{"source": "floppy"}, `It is "floppy", and must be one of`},
		"virtual media without an image":  {"boot", map[string]any{"source": "virtual_media"}, "needs the url of an image"},
		"a timeout that is none":          {"wait", map[string]any{"until": "call_home", "timeout": "soon"}, "must be a duration"},
		"SSH without an address":          {"wait", map[string]any{"until": "ssh"}, "takes an address"},
		"a file out of the directory":     {"files", map[string]any{"../x": ""}, "Bad file name"},
		"a kind that there is not":        {"kind", "amt", "must be one of: redfish, ipmi"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t, m, brokerA, nodeID(1))
			w.vars[tt.variable] = tt.value
			out, err := w.run("plan")
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("got %v, and no %q in\n%s", err, tt.want, out)
			}
		})
	}
	w := newWorkspace(t, m, brokerA, nodeID(1))
	w.env = []string{"REDFISH_USERNAME=admin"}
	out, err := w.apply()
	if err == nil || !strings.Contains(strings.Join(strings.Fields(out), " "), "BMCConfiguration: the machine can't be claimed") || !strings.Contains(out, "REDFISH_PASSWORD") {
		t.Errorf("without a password: %v\n%s", err, out)
	}
	if got := m.Requests(); len(got) > 0 {
		t.Errorf("changed was %q", got)
	}
}
