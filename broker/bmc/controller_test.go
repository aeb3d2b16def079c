package bmc_test

import (
	"context"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker/bmc"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ipmi"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/redfish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a machine of either kind.
type machine interface {
	On() bool
	Switch(on bool)
	Tag() string
	SetTag(tag string)
}

func quick(c bmc.Config) bmc.Config {
	c.Poll = 5 * time.Millisecond
	return c
}

func open(t *testing.T, c bmc.Config) bmc.Controller {
	t.Helper()
	controller, err := bmc.New(quick(c))
	if err != nil {
		t.Fatal(err)
	}
	return controller
}

func fishConfig(s *redfish.Server) bmc.Config {
	return bmc.Config{Kind: bmc.Redfish, Address: s.URL(), Username: s.Username, Password: s.Password}
}

func ipmiConfig(s *ipmi.Server) bmc.Config {
	return bmc.Config{Kind: bmc.IPMI, Address: s.Address(), Username: ipmi.Username, Password: ipmi.Password, Program: s.Tool()}
}

// TestController holds what is true of all controllers.
func TestController(t *testing.T) {
	type test struct {
		config  bmc.Config
		machine machine
	}
	for name, start := range map[string]func(t *testing.T) test{
		"redfish": func(t *testing.T) test {
			s := redfish.New(t, redfish.Options{PowerDelay: 20 * time.Millisecond})
			return test{fishConfig(s), s}
		},
		"redfish with basic authentication": func(t *testing.T) test {
			s := redfish.New(t, redfish.Options{NoSessions: true})
			return test{fishConfig(s), s}
		},
		"redfish with TLS": func(t *testing.T) test {
			s := redfish.New(t, redfish.Options{TLS: true})
			c := fishConfig(s)
			c.Address = strings.TrimPrefix(c.Address, "https://")
			c.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.CA()}))
			return test{c, s}
		},
		"redfish with the tag in the chassis": func(t *testing.T) test {
			s := redfish.New(t, redfish.Options{NoSystemTag: true})
			return test{fishConfig(s), s}
		},
		"ipmi": func(t *testing.T) test {
			s := ipmi.New(t, ipmi.Options{})
			return test{ipmiConfig(s), s}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			ctx := t.Context()
			c := open(t, s.config)
			step := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			for _, want := range []bool{true, false} {
				for range 2 { // the second time there is nothing to do
					if want {
						step("on", c.On(ctx))
					} else {
						step("off", c.Off(ctx))
					}
					if got, err := c.Power(ctx); err != nil || got != want || s.machine.On() != want {
						t.Fatalf("power is %t (%v), the machine's %t, want %t", got, err, s.machine.On(), want)
					}
				}
			}
			for _, want := range []string{bmc.NewClaim("0e7b1c52-93a1-4b57-a9c5-8a8f27a7b0c1", "00112233aabbccdd").Tag("rack 4, machine 12"), "rack 4", ""} {
				step("set the tag", c.SetTag(ctx, want))
				got, err := c.Tag(ctx)
				if err != nil || got != want || strings.TrimSpace(s.machine.Tag()) != want {
					t.Fatalf("the tag is %q (%v), the machine's %q, want %q", got, err, s.machine.Tag(), want)
				}
			}
			step("boot", c.BootOnce(ctx, bmc.Boot{Source: bmc.PXE, Firmware: bmc.UEFI}))
			step("eject", c.Eject(ctx, "http://192.0.2.9/x.iso"))
			if s, ok := s.machine.(*redfish.Server); ok && s.Sessions() != 0 {
				t.Errorf("%d sessions are left open", s.Sessions())
			}
		})
	}
}

func TestBootsOnce(t *testing.T) {
	const image = "http://192.0.2.9/x.iso"
	for name, tt := range map[string]struct {
		options redfish.Options
		boot    bmc.Boot
		want    redfish.Boot
	}{
		"pxe":           {boot: bmc.Boot{Source: bmc.PXE, Firmware: bmc.BIOS}, want: redfish.Boot{Target: "Pxe", Mode: "Legacy"}},
		"http":          {boot: bmc.Boot{Source: bmc.HTTP, URL: "http://192.0.2.9/boot.efi", Firmware: bmc.UEFI}, want: redfish.Boot{Target: "UefiHttp", Mode: "UEFI", URI: "http://192.0.2.9/boot.efi"}},
		"disk":          {boot: bmc.Boot{Source: bmc.Disk}, want: redfish.Boot{Target: "Hdd"}},
		"virtual media": {boot: bmc.Boot{Source: bmc.VirtualMedia, URL: image}, want: redfish.Boot{Target: "Cd", Image: image}},
		"virtual media of the manager": {
			options: redfish.Options{ManagerMedia: true},
			boot:    bmc.Boot{Source: bmc.VirtualMedia, URL: image}, want: redfish.Boot{Target: "Cd", Image: image},
		},
	} {
		t.Run(name, func(t *testing.T) {
			boots := make(chan redfish.Boot, 2)
			tt.options.OnPower = func(on bool, b redfish.Boot) {
				if on {
					boots <- b
				}
			}
			s := redfish.New(t, tt.options)
			c := open(t, fishConfig(s))
			for range 2 { // as after a crash
				if err := c.BootOnce(t.Context(), tt.boot); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []redfish.Boot{tt.want, {Target: "None", Mode: tt.want.Mode, Image: tt.want.Image}} {
				if err := c.On(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := <-boots; got != want {
					t.Errorf("boots from %+v, want %+v", got, want)
				}
				if err := c.Off(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Eject(t.Context(), "http://192.0.2.9/other.iso"); err != nil || s.Next().Image != tt.want.Image {
				t.Errorf("another's image: %v, in the drive is %q", err, s.Next().Image)
			}
			if err := c.Eject(t.Context(), image); err != nil || s.Next().Image != "" {
				t.Errorf("eject: %v, in the drive is %q", err, s.Next().Image)
			}
		})
	}
}

func TestIPMIBootsOnce(t *testing.T) {
	boots := make(chan string, 2)
	s := ipmi.New(t, ipmi.Options{OnPower: func(on bool, boot string) {
		if on {
			boots <- boot
		}
	}})
	c := open(t, ipmiConfig(s))
	if err := c.BootOnce(t.Context(), bmc.Boot{Source: bmc.PXE, Firmware: bmc.UEFI}); err != nil {
		t.Fatal(err)
	}
	if err := c.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-boots; got != "pxe" {
		t.Errorf("boots from %q", got)
	}
	err := c.BootOnce(t.Context(), bmc.Boot{Source: bmc.HTTP})
	if bmc.ClassOf(err) != bmc.ClassUnsupported {
		t.Errorf("HTTP: %v", err)
	}
}

// TestErrors: each failure has a class, says what it is about, and keeps the password.
func TestErrors(t *testing.T) {
	const password = "Pa55wort-of-the-test"
	answers := func(status int, message string) func(t *testing.T) bmc.Config {
		return func(t *testing.T) bmc.Config {
			s := redfish.New(t, redfish.Options{Username: "admin", Password: password})
			s.Fail(func(r *http.Request) (int, string) {
				if r.URL.Path == redfish.SystemPath {
					return status, message
				}
				return 0, ""
			})
			return fishConfig(s)
		}
	}
	closed := redfish.New(t, redfish.Options{})
	for name, tt := range map[string]struct {
		config func(t *testing.T) bmc.Config
		want   bmc.Class
		text   string
	}{
		"redfish, wrong password": {func(t *testing.T) bmc.Config {
			c := fishConfig(redfish.New(t, redfish.Options{}))
			c.Password = password
			return c
		}, bmc.ClassAuth, "401: The user name or the password is wrong."},
		"redfish, certificate": {func(t *testing.T) bmc.Config {
			return fishConfig(redfish.New(t, redfish.Options{TLS: true}))
		}, bmc.ClassUnreachable, "certificate"},
		"redfish, nobody there": {func(*testing.T) bmc.Config {
			return bmc.Config{Kind: bmc.Redfish, Address: "http://127.0.0.1:1", Username: "u", Password: password}
		}, bmc.ClassUnreachable, "connection refused"},
		"redfish, no such system": {func(*testing.T) bmc.Config {
			c := fishConfig(closed)
			c.Address += "/redfish/v1/Systems/7"
			return c
		}, bmc.ClassUnsupported, "Systems/7 was not found"},
		"redfish, several systems": {func(t *testing.T) bmc.Config {
			return fishConfig(redfish.New(t, redfish.Options{SharedChassis: true}))
		}, bmc.ClassConfiguration, "has 2 systems"},
		"redfish, busy":       {answers(503, "The service is busy."), bmc.ClassBusy, "503: The service is busy."},
		"redfish, breaks off": {answers(-1, ""), bmc.ClassUnreachable, "EOF"},
		"ipmi, wrong password": {func(t *testing.T) bmc.Config {
			c := ipmiConfig(ipmi.New(t, ipmi.Options{}))
			c.Password = "wrong-Pa55wort"
			return c
		}, bmc.ClassAuth, "HMAC is invalid"},
		"ipmi, wrong user": {func(t *testing.T) bmc.Config {
			c := ipmiConfig(ipmi.New(t, ipmi.Options{}))
			c.Username = "nobody"
			return c
		}, bmc.ClassAuth, "unauthorized name"},
		"a kind that there is not": {func(*testing.T) bmc.Config { return bmc.Config{Kind: "amt", Address: "x"} }, bmc.ClassConfiguration, `"amt" is no kind`},
		"an address with a user": {func(*testing.T) bmc.Config {
			return bmc.Config{Kind: bmc.Redfish, Address: "https://u:" + password + "@192.0.2.1"}
		}, bmc.ClassConfiguration, "no URL"},
		"an address that would be a flag": {func(*testing.T) bmc.Config { return bmc.Config{Kind: bmc.IPMI, Address: "-x"} }, bmc.ClassConfiguration, "no host"},
	} {
		t.Run(name, func(t *testing.T) {
			controller, err := bmc.New(quick(tt.config(t)))
			if err == nil {
				_, err = controller.Power(t.Context())
			}
			if got := bmc.ClassOf(err); got != tt.want || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got the class %q and the error %v, want %q and %q", got, err, tt.want, tt.text)
			}
			if text := err.Error() + bmc.HintOf(err); strings.Contains(text, password) || strings.Contains(text, "wrong-Pa55wort") {
				t.Errorf("the password is in %q", text)
			}
			if (tt.want == bmc.ClassAuth || tt.want == bmc.ClassConfiguration) && bmc.HintOf(err) == "" {
				t.Error("there is no hint")
			}
		})
	}
}

func TestIPMIUnreachable(t *testing.T) {
	s := ipmi.New(t, ipmi.Options{})
	c := ipmiConfig(s)
	c.Address, c.Timeout, c.Attempts = "127.0.0.1:1", 300*time.Millisecond, 1
	_, err := open(t, c).Power(t.Context())
	if bmc.ClassOf(err) != bmc.ClassUnreachable {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = open(t, c).Power(ctx); bmc.ClassOf(err) != bmc.ClassInterrupted {
		t.Errorf("interrupted: %v", err)
	}
}

// TestTriesAgain: what is busy is asked again; a wrong password is not.
func TestTriesAgain(t *testing.T) {
	s := redfish.New(t, redfish.Options{})
	refuse := func(times, status int) *int {
		n := 0
		s.Fail(func(r *http.Request) (int, string) {
			if r.URL.Path != redfish.SystemPath {
				return 0, ""
			}
			if n++; n <= times {
				return status, "not now"
			}
			return 0, ""
		})
		return &n
	}
	c := open(t, fishConfig(s))
	tries := refuse(2, http.StatusServiceUnavailable)
	if _, err := c.Power(t.Context()); err != nil || *tries != 3 {
		t.Errorf("%d tries, %v", *tries, err)
	}
	tries = refuse(9, http.StatusUnauthorized)
	if _, err := c.Power(t.Context()); bmc.ClassOf(err) != bmc.ClassAuth || *tries != 1 {
		t.Errorf("%d tries, %v", *tries, err)
	}
}

// TestTagsThatAreNotKept: a claim that is kept in part is none.
func TestTagsThatAreNotKept(t *testing.T) {
	claim := bmc.NewClaim("0e7b1c52-93a1-4b57-a9c5-8a8f27a7b0c1", "00112233aabbccdd").Tag("")
	for name, o := range map[string]redfish.Options{
		"truncated":               {TagLimit: 10},
		"read only":               {NoSystemTag: true, NoChassisTag: true},
		"in a chassis for others": {NoSystemTag: true, SharedChassis: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := redfish.New(t, o)
			s.SetTag("rack 4")
			config := fishConfig(s)
			config.Address += redfish.SystemPath
			err := open(t, config).SetTag(t.Context(), claim)
			if bmc.ClassOf(err) != bmc.ClassUnsupported {
				t.Errorf("got %v", err)
			}
			if s.Tag() != "rack 4" {
				t.Errorf("the tag has become %q", s.Tag())
			}
		})
	}
	c := open(t, ipmiConfig(ipmi.New(t, ipmi.Options{NoTag: true})))
	if err := c.SetTag(t.Context(), claim); bmc.ClassOf(err) != bmc.ClassUnsupported || bmc.HintOf(err) == "" {
		t.Errorf("without DCMI: %v", err)
	}
	if _, err := c.Tag(t.Context()); bmc.ClassOf(err) != bmc.ClassUnsupported {
		t.Errorf("without DCMI: %v", err)
	}
}

// TestTagThatIsTooLong: DCMI keeps 63 bytes, and nothing of a longer tag is written.
func TestTagThatIsTooLong(t *testing.T) {
	s := ipmi.New(t, ipmi.Options{})
	s.SetTag("rack 4")
	c := open(t, ipmiConfig(s))
	if err := c.SetTag(t.Context(), strings.Repeat("x", 64)); bmc.ClassOf(err) != bmc.ClassUnsupported || bmc.HintOf(err) == "" || s.Tag() != "rack 4" {
		t.Errorf("the tag is %q, the error %v", s.Tag(), err)
	}
}

// TestSessionOfAnInterruptedCall: it ends as well, for controllers have few.
func TestSessionOfAnInterruptedCall(t *testing.T) {
	s := redfish.New(t, redfish.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	s.Fail(func(r *http.Request) (int, string) {
		if r.URL.Path == redfish.SystemPath {
			cancel()
		}
		return 0, ""
	})
	if _, err := open(t, fishConfig(s)).Power(ctx); bmc.ClassOf(err) != bmc.ClassInterrupted && err != nil {
		t.Errorf("got %v", err)
	}
	if n := s.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestPasswordIsNotOnTheCommandLine: others on the machine see command lines.
func TestPasswordIsNotOnTheCommandLine(t *testing.T) {
	s := ipmi.New(t, ipmi.Options{})
	c := ipmiConfig(s)
	c.Program = writeTool(t)
	_, err := open(t, c).Power(t.Context())
	if err == nil || !strings.Contains(err.Error(), "-C 3") || strings.Contains(err.Error(), ipmi.Password) {
		t.Errorf("the command line is %v", err)
	}
}

func TestClaim(t *testing.T) {
	claim := bmc.NewClaim("0E7B1C52-93a1-4b57-a9c5-8a8f27a7b0c1", "00112233aabbccdd")
	if got, want := claim.String(), "duffy:0e7b1c5293a1.00112233aabbccdd"; got != want || !claim.Valid() {
		t.Errorf("got %q, want %q", got, want)
	}
	for tag, want := range map[string]struct {
		own     string
		claim   bmc.Claim
		claimed bool
	}{
		"":                                     {},
		"rack 4":                               {own: "rack 4"},
		claim.Tag(""):                          {"", claim, true},
		claim.Tag("rack 4"):                    {"rack 4", claim, true},
		claim.Tag("rack 4") + "  ":             {"rack 4", claim, true},
		"xduffy:0e7b1c5293a1.00112233aabbccdd": {own: "xduffy:0e7b1c5293a1.00112233aabbccdd"},
		// Cut short while it was written.
		"rack 4 duffy:0e7b1c5293a1.0011": {"rack 4", bmc.Claim{Broker: "0e7b1c5293a1", Node: "0011"}, true},
		"duffy:0e7b1c52":                 {"", bmc.Claim{Broker: "0e7b1c52"}, true},
	} {
		own, got, claimed := bmc.ParseTag(tag)
		if own != want.own || got != want.claim || claimed != want.claimed {
			t.Errorf("%q: got %q, %v, %t", tag, own, got, claimed)
		}
	}
	if bmc.NewClaim("x", "y").Valid() {
		t.Error("a claim without ids is valid")
	}
}
