// Package bmc switches machines through their management controllers: with Redfish,
// or with IPMI through the program ipmitool.
//
// A [Controller] has few operations, and each can be repeated: it looks first at what
// is so already, and returns when the controller says that it is so. What a controller
// is too busy for, or a connection that breaks, is tried a few times.
//
// # Claims
//
// A machine belongs to the broker whose claim stands in its asset tag: see [Claim].
// Redfish has it in the computer system, or, where that can't be written, in the
// chassis if nothing else is in there. With IPMI it is the asset tag of DCMI, which
// not all controllers have. What an operator has put into the tag stays there,
// before the claim.
//
// # Errors
//
// Each is an [Error] with a class. None has a password in it.
package bmc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Kind is a protocol.
type Kind string

// The kinds of controllers.
const (
	Redfish Kind = "redfish"
	IPMI    Kind = "ipmi"
)

// Config says which machine is meant, and how its controller is talked to.
type Config struct {
	Kind Kind
	// Address is, for Redfish, a URL, with the path of a computer system where the
	// service has several ("https://192.0.2.1/redfish/v1/Systems/2"); a host alone means
	// https. For IPMI it is a host, or host:port.
	Address            string
	Username, Password string
	// Insecure: certificates are not verified. For Redfish alone.
	Insecure bool
	// CA are the certificates, in PEM, that that of the controller may be signed
	// with; "" means those that the system trusts. For Redfish alone.
	CA string
	// Program is ipmitool, "" the one on PATH.
	Program string
	// Timeout is how long one answer may take; 0 means 30 s.
	Timeout time.Duration
	// Poll is how often a change is looked for that takes a while; 0 means 1 s.
	Poll time.Duration
	// Settle is how long the machine may take to be on, or off, once the controller
	// has accepted it; 0 means 2 min.
	Settle time.Duration
	// Attempts is how often something is tried that fails for a reason that may
	// pass; 0 means 3. The first pause is as long as Poll, and each next one doubles.
	Attempts int
}

const (
	defaultTimeout  = 30 * time.Second
	defaultPoll     = time.Second
	defaultSettle   = 2 * time.Minute
	defaultAttempts = 3
)

// Source is what a machine boots from.
type Source string

// The boot sources.
const (
	PXE          Source = "pxe"
	HTTP         Source = "http"          // Redfish only
	VirtualMedia Source = "virtual_media" // Redfish only
	Disk         Source = "disk"
)

// Firmware is how a machine boots.
type Firmware string

// The firmwares; "" leaves it as it is set up.
const (
	UEFI Firmware = "uefi"
	BIOS Firmware = "bios"
)

// Boot says what a machine boots from, once.
type Boot struct {
	Source Source
	// URL is what [HTTP] loads ("" leaves it to DHCP), or the image of [VirtualMedia].
	URL      string
	Firmware Firmware
}

// Controller switches one machine. Methods end with ctx.
type Controller interface {
	// Power tells whether the machine is on, or about to be.
	Power(ctx context.Context) (on bool, err error)
	// On switches it on, and returns when it is; nothing if it is on already.
	On(ctx context.Context) error
	// Off switches it off at once, and returns when it is; nothing if it is off
	// already.
	Off(ctx context.Context) error
	// Tag gives the asset tag, "" for none. ClassUnsupported if the controller has
	// none.
	Tag(ctx context.Context) (string, error)
	// SetTag sets the asset tag, and reads it back. ClassUnsupported if the controller
	// does not keep it.
	SetTag(ctx context.Context, tag string) error
	// BootOnce sets what the machine boots from next, and after that as ever. Virtual
	// media is inserted.
	BootOnce(ctx context.Context, b Boot) error
	// Eject takes the image at this URL out of the virtual drive, if it is in there.
	Eject(ctx context.Context, url string) error
}

// New gives the controller of a machine. It talks to nobody yet.
func New(c Config) (Controller, error) {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Poll == 0 {
		c.Poll = defaultPoll
	}
	if c.Settle == 0 {
		c.Settle = defaultSettle
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.Address == "" {
		return nil, configuration(c, "the controller has no address", "give the host bmc = { address = ..., kind = ... }")
	}
	var driver Controller
	var err error
	switch c.Kind {
	case Redfish:
		driver, err = newRedfish(c)
	case IPMI:
		driver, err = newIPMI(c)
	default:
		err = configuration(c, fmt.Sprintf("%q is no kind of controller", c.Kind), `the kind is "redfish" or "ipmi"`)
	}
	if err != nil {
		return nil, err
	}
	return steady{driver, c.Attempts, c.Poll}, nil
}

func configuration(c Config, what, hint string) error {
	address := c.Address[strings.LastIndex(c.Address, "@")+1:] // there may be a password before it
	return &Error{Class: ClassConfiguration, Address: address, Doing: "find the controller", Hint: hint, Err: errors.New(what)}
}

// endpoint splits the address of a Redfish service from the path of a system in it.
func endpoint(c Config) (base, system string, err error) {
	address := c.Address
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" {
		return "", "", configuration(c, "the address is no URL of a Redfish service",
			"write https://HOST, with the path of a system where the service has several, and without a user")
	}
	return u.Scheme + "://" + u.Host, strings.TrimSuffix(u.Path, "/"), nil
}

// hostPort splits the address of an IPMI controller; port is "" if there is none.
func hostPort(c Config) (host, port string, err error) {
	host, port, err = net.SplitHostPort(c.Address)
	if err != nil {
		host, port = strings.Trim(c.Address, "[]"), ""
	}
	if host == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, "/ @") {
		return "", "", configuration(c, "the address is no host of an IPMI controller", "write HOST or HOST:PORT")
	}
	return host, port, nil
}

func tlsConfig(c Config) (*tls.Config, error) {
	t := &tls.Config{InsecureSkipVerify: c.Insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // the operator's choice
	if c.CA != "" {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, configuration(c, "the CA has no certificate", "it must be in PEM: -----BEGIN CERTIFICATE-----")
		}
	}
	return t, nil
}

// steady tries again what may pass.
type steady struct {
	Controller
	attempts int
	pause    time.Duration
}

func (s steady) try(ctx context.Context, fn func() error) error {
	pause := s.pause
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil || attempt >= s.attempts || !ClassOf(err).passes() || ctx.Err() != nil {
			return err
		}
		if wait(ctx, pause) != nil {
			return err
		}
		pause *= 2
	}
}

func (s steady) Power(ctx context.Context) (on bool, err error) {
	err = s.try(ctx, func() error { on, err = s.Controller.Power(ctx); return err })
	return on, err
}

func (s steady) On(ctx context.Context) error {
	return s.try(ctx, func() error { return s.Controller.On(ctx) })
}

func (s steady) Off(ctx context.Context) error {
	return s.try(ctx, func() error { return s.Controller.Off(ctx) })
}

func (s steady) Tag(ctx context.Context) (tag string, err error) {
	err = s.try(ctx, func() error { tag, err = s.Controller.Tag(ctx); return err })
	return tag, err
}

func (s steady) SetTag(ctx context.Context, tag string) error {
	return s.try(ctx, func() error { return s.Controller.SetTag(ctx, tag) })
}

func (s steady) BootOnce(ctx context.Context, b Boot) error {
	return s.try(ctx, func() error { return s.Controller.BootOnce(ctx, b) })
}

func (s steady) Eject(ctx context.Context, url string) error {
	return s.try(ctx, func() error { return s.Controller.Eject(ctx, url) })
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
