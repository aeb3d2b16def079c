package bmc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/common"
	"github.com/stmcginnis/gofish/redfish"
)

// fish makes a session for each operation, and ends it: controllers have few, and a
// session that a killed process has left blocks one until it times out.
type fish struct {
	Config
	base, system string
	tls          *tls.Config
}

func newRedfish(c Config) (Controller, error) {
	base, system, err := endpoint(c)
	if err != nil {
		return nil, err
	}
	t, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	return fish{c, base, system, t}, nil
}

// logoutTimeout bounds the end of a session, which an operation that was given up
// needs too.
const logoutTimeout = 5 * time.Second

// bounded ends requests with a context, but for the one that ends the session.
type bounded struct {
	ctx context.Context //nolint:containedctx // gofish has one context for the whole life of a client
	*http.Transport
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodDelete {
		return b.Transport.RoundTrip(req.WithContext(b.ctx))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), logoutTimeout)
	resp, err := b.Transport.RoundTrip(req.WithContext(ctx))
	context.AfterFunc(ctx, cancel)
	return resp, err
}

// with calls fn with the system, in a session.
func (f fish) with(ctx context.Context, doing string, fn func(s *redfish.ComputerSystem) error) error {
	err := f.session(ctx, func(c *gofish.APIClient) error {
		s, err := f.find(c)
		if err != nil {
			return err
		}
		return fn(s)
	})
	return f.failed(ctx, doing, err)
}

func (f fish) session(ctx context.Context, fn func(c *gofish.APIClient) error) error {
	transport := &http.Transport{
		TLSClientConfig: f.tls, DialContext: (&net.Dialer{Timeout: f.Timeout}).DialContext,
		TLSHandshakeTimeout: f.Timeout, ResponseHeaderTimeout: f.Timeout,
	}
	defer transport.CloseIdleConnections()
	config := gofish.ClientConfig{
		Endpoint: f.base, Username: f.Username, Password: f.Password,
		HTTPClient: &http.Client{Transport: bounded{ctx, transport}, CheckRedirect: sameHost, Timeout: f.Timeout},
	}
	c, err := gofish.ConnectContext(context.WithoutCancel(ctx), config)
	if withoutSessions(err) {
		config.BasicAuth = true // a service without sessions
		c, err = gofish.ConnectContext(context.WithoutCancel(ctx), config)
	}
	if err != nil {
		return err
	}
	if !config.BasicAuth && f.Username != "" {
		defer c.Logout()
	}
	return fn(c)
}

// withoutSessions tells whether a service has none, from what it says to a login.
func withoutSessions(err error) bool {
	e := (*common.Error)(nil)
	if !errors.As(err, &e) {
		return false
	}
	switch e.HTTPReturnedStatusCode {
	case 0, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented: // 0: it names no place for them
		return true
	}
	return false
}

// sameHost keeps credentials from other hosts, and from connections that others can
// read where ours began as one that they can't.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) > 3 {
		return http.ErrUseLastResponse
	}
	return nil
}

// find gives the system that the address names, or the only one.
func (f fish) find(c *gofish.APIClient) (*redfish.ComputerSystem, error) {
	if strings.Contains(f.system, "/Systems/") {
		return redfish.GetComputerSystem(c, f.system)
	}
	all, err := c.Service.Systems()
	if err != nil && len(all) == 0 {
		return nil, err
	}
	if len(all) != 1 {
		var paths []string
		for _, s := range all {
			paths = append(paths, s.ODataID)
		}
		return nil, &Error{
			Class: ClassConfiguration, Err: fmt.Errorf("the service has %d systems", len(all)),
			Hint: "add the path of the machine's to the address: " + strings.Join(paths, ", "),
		}
	}
	return all[0], nil
}

func statusOf(err error) int {
	if e := (*common.Error)(nil); errors.As(err, &e) {
		return e.HTTPReturnedStatusCode
	}
	return 0
}

// failed makes the error of an operation.
func (f fish) failed(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		e.Address, e.Doing = f.Address, doing
		return e
	}
	if all := (*common.CollectionError)(nil); errors.As(err, &all) {
		for _, err = range all.Failures { // one is enough to know
			break
		}
	}
	e := &Error{Class: ClassOther, Address: f.Address, Doing: doing, Err: err}
	if answer := (*common.Error)(nil); errors.As(err, &answer) && answer.HTTPReturnedStatusCode != 0 {
		e.Class, e.Hint = classOfStatus(answer.HTTPReturnedStatusCode)
		e.Err = fmt.Errorf("the controller answers %d: %s", answer.HTTPReturnedStatusCode, answerText(answer))
		return e
	}
	var netErr net.Error
	var certErr *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		e.Class, e.Err = ClassInterrupted, ctx.Err()
	case errors.As(err, &certErr):
		e.Class, e.Err = ClassUnreachable, certErr
		e.Hint = "give the certificate that signed it as the CA, or, on a network that is trusted, switch verification off (insecure)"
	case errors.As(err, &netErr), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		e.Class, e.Hint = ClassUnreachable, "check the address of the host's bmc, and that the broker's machine reaches it"
	case strings.Contains(err.Error(), "EOF"), strings.Contains(err.Error(), "invalid character"), strings.Contains(err.Error(), "malformed HTTP"):
		e.Class, e.Hint = ClassUnreachable, "what is there is no Redfish service, or one that breaks off: check the address of the host's bmc"
	}
	return e
}

func classOfStatus(status int) (class Class, hint string) {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ClassAuth, "check REDFISH_USERNAME and REDFISH_PASSWORD of the host's credentials, and that the user may switch the machine"
	case http.StatusNotFound:
		return ClassUnsupported, "check the path in the address of the host's bmc"
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		return ClassUnsupported, ""
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return ClassBusy, ""
	}
	return ClassOther, ""
}

// answerText gives what an answer says that is an error: its extended messages, else
// its message.
func answerText(e *common.Error) string {
	var texts []string
	for _, info := range e.ExtendedInfos {
		if info.Message != "" && !slices.Contains(texts, info.Message) {
			texts = append(texts, info.Message)
		}
	}
	if len(texts) == 0 {
		texts = []string{e.Message}
	}
	text := strings.Join(strings.Fields(strings.Join(texts, "; ")), " ")
	return text[:min(len(text), 300)]
}

func (f fish) Power(ctx context.Context) (on bool, err error) {
	err = f.with(ctx, "read the power state", func(s *redfish.ComputerSystem) error {
		on = isOn(s)
		return nil
	})
	return on, err
}

func isOn(s *redfish.ComputerSystem) bool {
	return s.PowerState != redfish.OffPowerState && s.PowerState != redfish.PoweringOffPowerState
}

func (f fish) On(ctx context.Context) error {
	return f.become(ctx, true, "switch it on", redfish.OnResetType, redfish.ForceOnResetType)
}

func (f fish) Off(ctx context.Context) error {
	return f.become(ctx, false, "switch it off", redfish.ForceOffResetType, redfish.GracefulShutdownResetType)
}

// become resets the system in the first of the ways that it allows.
func (f fish) become(ctx context.Context, want bool, doing string, ways ...redfish.ResetType) error {
	target := map[bool]redfish.PowerState{true: redfish.OnPowerState, false: redfish.OffPowerState}[want]
	done := false
	err := f.with(ctx, doing, func(s *redfish.ComputerSystem) error {
		if done = s.PowerState == target; done {
			return nil
		}
		way := ways[0]
		for _, other := range ways {
			if slices.Contains(s.SupportedResetTypes, other) {
				way = other
				break
			}
		}
		if len(s.SupportedResetTypes) > 0 && !slices.Contains(s.SupportedResetTypes, way) {
			return &Error{Class: ClassUnsupported, Err: fmt.Errorf("the system knows no reset of the type %s", way)}
		}
		return s.Reset(way)
	})
	if err != nil || done {
		return err
	}
	return reach(ctx, f.Config, doing, func() (there bool, err error) {
		err = f.with(ctx, doing, func(s *redfish.ComputerSystem) error {
			there = s.PowerState == target
			return nil
		})
		return there, err
	})
}

func (f fish) BootOnce(ctx context.Context, b Boot) error {
	return f.with(ctx, "set the next boot", func(s *redfish.ComputerSystem) error {
		boot := redfish.Boot{BootSourceOverrideEnabled: redfish.OnceBootSourceOverrideEnabled}
		switch b.Source {
		case PXE:
			boot.BootSourceOverrideTarget = redfish.PxeBootSourceOverrideTarget
		case HTTP:
			boot.BootSourceOverrideTarget, boot.HTTPBootURI = redfish.UefiHTTPBootSourceOverrideTarget, b.URL
		case VirtualMedia:
			if err := insert(s, b.URL); err != nil {
				return err
			}
			boot.BootSourceOverrideTarget = redfish.CdBootSourceOverrideTarget
		case Disk:
			boot.BootSourceOverrideTarget = redfish.HddBootSourceOverrideTarget
		default:
			return &Error{Class: ClassConfiguration, Err: fmt.Errorf("%q is no boot source", b.Source)}
		}
		switch b.Firmware {
		case UEFI:
			boot.BootSourceOverrideMode = redfish.UEFIBootSourceOverrideMode
		case BIOS:
			boot.BootSourceOverrideMode = redfish.LegacyBootSourceOverrideMode
		}
		return s.SetBoot(boot)
	})
}

// drives gives the virtual CD drives of a system: its own, or those of its managers.
func drives(s *redfish.ComputerSystem) ([]*redfish.VirtualMedia, error) {
	all, err := s.VirtualMedia()
	if len(all) == 0 {
		managers, managersErr := s.ManagedBy()
		if managersErr != nil && len(managers) == 0 {
			return nil, managersErr
		}
		for _, m := range managers {
			media, mediaErr := m.VirtualMedia()
			all, err = append(all, media...), mediaErr
		}
	}
	all = slices.DeleteFunc(all, func(v *redfish.VirtualMedia) bool {
		return !slices.Contains(v.MediaTypes, redfish.CDMediaType) && !slices.Contains(v.MediaTypes, redfish.DVDMediaType)
	})
	if len(all) > 0 {
		return all, nil
	}
	return nil, err
}

// insert puts an image into the first virtual CD drive.
func insert(s *redfish.ComputerSystem, url string) error {
	all, err := drives(s)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &Error{Class: ClassUnsupported, Err: errors.New("the controller has no virtual CD drive"), Hint: "use another boot source; some controllers need a license for virtual media"}
	}
	drive := all[0]
	if drive.Inserted {
		if drive.Image == url {
			return nil
		}
		if err := drive.EjectMedia(); err != nil {
			return err
		}
	}
	return drive.InsertMediaConfig(redfish.VirtualMediaConfig{Image: url, Inserted: true, WriteProtected: true})
}

func (f fish) Eject(ctx context.Context, url string) error {
	return f.with(ctx, "eject the virtual media", func(s *redfish.ComputerSystem) error {
		all, err := drives(s)
		if err != nil {
			return err
		}
		for _, drive := range all {
			if !drive.Inserted || drive.Image != "" && drive.Image != url {
				continue
			}
			if err := drive.EjectMedia(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tag gives the tag of the system, or of its chassis if the claim stands there.
func (f fish) Tag(ctx context.Context) (tag string, err error) {
	err = f.with(ctx, "read the asset tag", func(s *redfish.ComputerSystem) error {
		tag, err = readTag(s)
		return err
	})
	return tag, err
}

func readTag(s *redfish.ComputerSystem) (string, error) {
	tag := strings.TrimSpace(s.AssetTag)
	if _, _, claimed := ParseTag(tag); claimed {
		return tag, nil
	}
	chassis, err := ownChassis(s)
	if chassis == nil || err != nil {
		return tag, err
	}
	other := strings.TrimSpace(chassis.AssetTag)
	if _, _, claimed := ParseTag(other); claimed || tag == "" {
		return other, nil
	}
	return tag, nil
}

// ownChassis gives the chassis that holds this system alone; nil if there is none.
func ownChassis(s *redfish.ComputerSystem) (*redfish.Chassis, error) {
	var raw struct {
		Links struct {
			Chassis common.Links
		}
	}
	if err := json.Unmarshal(s.RawData, &raw); err != nil {
		return nil, err
	}
	for _, path := range raw.Links.Chassis.ToStrings() {
		c, err := redfish.GetChassis(s.GetClient(), path)
		if err != nil {
			return nil, err
		}
		systems, err := c.ComputerSystems()
		if err == nil && len(systems) == 1 {
			return c, nil
		}
	}
	return nil, nil
}

// SetTag writes the tag of the system, or that of its chassis where the system does
// not keep one.
func (f fish) SetTag(ctx context.Context, tag string) error {
	return f.with(ctx, "write the asset tag", func(s *redfish.ComputerSystem) error {
		payload := map[string]string{"AssetTag": tag}
		inSystem := func() (string, error) {
			again, err := redfish.GetComputerSystem(s.GetClient(), s.ODataID)
			if err != nil {
				return "", err
			}
			return strings.TrimSpace(again.AssetTag), nil
		}
		systemErr := written(s.Patch(s.ODataID, payload), inSystem, tag)
		if class, _ := classOfStatus(statusOf(systemErr)); systemErr != nil && ClassOf(systemErr) != ClassUnsupported && class != ClassUnsupported {
			return systemErr
		}
		if systemErr != nil && statusOf(systemErr) == 0 { // kept in part: not to be left so
			if err := s.Patch(s.ODataID, map[string]string{"AssetTag": s.AssetTag}); err != nil {
				return err
			}
		}
		chassis, err := ownChassis(s)
		switch {
		case err != nil:
			return err
		case systemErr == nil && chassis == nil:
			return nil
		case systemErr == nil: // an old claim may be left there
			if _, _, claimed := ParseTag(chassis.AssetTag); !claimed {
				return nil
			}
		case chassis == nil:
			return &Error{Class: ClassUnsupported, Err: fmt.Errorf("the system does not keep an asset tag (%w), and has no chassis of its own", systemErr)}
		}
		inChassis := func() (string, error) {
			again, err := redfish.GetChassis(s.GetClient(), chassis.ODataID)
			if err != nil {
				return "", err
			}
			return strings.TrimSpace(again.AssetTag), nil
		}
		err = written(chassis.Patch(chassis.ODataID, payload), inChassis, tag)
		if class, _ := classOfStatus(statusOf(err)); err != nil && class == ClassUnsupported {
			return &Error{Class: ClassUnsupported, Err: fmt.Errorf("neither the system nor its chassis keeps an asset tag: %s", answerOf(err))}
		}
		return err
	})
}

func answerOf(err error) string {
	if e := (*common.Error)(nil); errors.As(err, &e) {
		return fmt.Sprintf("%d: %s", e.HTTPReturnedStatusCode, answerText(e))
	}
	return err.Error()
}

// written checks that a tag was kept as it was written.
func written(err error, read func() (string, error), want string) error {
	if err != nil {
		return err
	}
	got, err := read()
	if err != nil || got == strings.TrimSpace(want) {
		return err
	}
	return &Error{Class: ClassUnsupported, Err: fmt.Errorf("the controller has kept %q of the asset tag %q", got, want), Hint: "shorten the asset tag of the machine"}
}
