package bmc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// ipmi runs ipmitool for each operation. -C 3 names the cipher suite, RAKP-HMAC-SHA1
// with AES-128: finding out which ones a controller has takes 10 seconds. -v makes
// ipmitool say why no session came about.
type ipmi struct {
	Config
	program, host, port string
}

func newIPMI(c Config) (Controller, error) {
	host, port, err := hostPort(c)
	if err != nil {
		return nil, err
	}
	program := c.Program
	if program == "" {
		if program, err = exec.LookPath("ipmitool"); err != nil {
			return nil, configuration(c, "ipmitool is not installed", "install the package ipmitool on the broker's machine")
		}
	}
	return ipmi{c, program, host, port}, nil
}

// Limits of ipmitool's own tries: seconds for an answer, which grow by one each
// time, and tries.
const (
	ipmiAnswer = "2"
	ipmiTries  = "3"
)

// DCMI 1.5, sections 6.4.2 and 6.4.3.
const (
	dcmiGroup       = "0x2c"
	dcmiGroupID     = 0xdc
	dcmiGetAssetTag = "0x06"
	dcmiSetAssetTag = "0x08"
	dcmiChunk       = 16
	dcmiTagLength   = 63
)

// run runs ipmitool and gives its standard output.
func (i ipmi) run(ctx context.Context, doing string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, i.Timeout, errNoAnswer)
	defer cancel()
	all := []string{"-I", "lanplus", "-C", "3", "-v", "-N", ipmiAnswer, "-R", ipmiTries, "-H", i.host, "-E"}
	if i.Username != "" {
		all = append(all, "-U", i.Username)
	}
	if i.port != "" {
		all = append(all, "-p", i.port)
	}
	cmd := exec.CommandContext(ctx, i.program, append(all, args...)...) //nolint:gosec // the operator names the program
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LC_ALL=C", "IPMI_PASSWORD=" + i.Password}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", i.failed(ctx, doing, err, stderr.String()+"\n"+stdout.String())
	}
	return stdout.String(), nil
}

var errNoAnswer = errors.New("no answer in time")

// failed makes the error of a run from what ipmitool has said.
func (i ipmi) failed(ctx context.Context, doing string, err error, said string) error {
	e := &Error{Class: ClassOther, Address: i.Address, Doing: doing, Err: fmt.Errorf("ipmitool: %w", err)}
	says := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(said, text) {
				e.Err = fmt.Errorf("ipmitool: %s", text)
				return true
			}
		}
		return false
	}
	switch {
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), errNoAnswer):
		e.Class, e.Err = ClassInterrupted, ctx.Err()
	case ctx.Err() != nil:
		e.Class, e.Err = ClassUnreachable, fmt.Errorf("no answer within %s", i.Timeout)
	case says("unauthorized name", "HMAC is invalid", "Insufficient privilege", "invalid role"):
		e.Class, e.Hint = ClassAuth, "check IPMI_USERNAME and IPMI_PASSWORD of the host's credentials, and that the user may be an administrator over LAN"
	case says("Address lookup for"):
		e.Class, e.Hint = ClassUnreachable, "the host name of the controller is not known: check the address of the host's bmc"
	case says("invalid cipher suite", "no matching cipher suite"):
		e.Class, e.Hint = ClassUnsupported, "the controller must accept cipher suite 3"
	case says("Unable to establish", "Get Auth Capabilities error", "No response from remote controller", "session timeout"):
		e.Class, e.Hint = ClassUnreachable, "check the address of the host's bmc, that IPMI over LAN is switched on, and that UDP port 623 is not filtered"
	case says("Node busy", "Out of space", "BMC initialization in progress", "Insufficient resources", "Command not supported in present state"):
		e.Class = ClassBusy
	case says("Invalid command", "Invalid data field", "Parameter not supported", "Command response could not be provided", "Requested sensor, data, or record not found",
		"Request data length", "Parameter out of range", "Cannot execute command, command disabled"):
		e.Class = ClassUnsupported
	default:
		if text := strings.Join(strings.Fields(said), " "); text != "" {
			e.Err = fmt.Errorf("ipmitool: %s", text[:min(len(text), 300)])
		}
	}
	return e
}

func (i ipmi) Power(ctx context.Context) (bool, error) {
	const doing = "read the power state"
	out, err := i.run(ctx, doing, "chassis", "power", "status")
	switch {
	case err != nil:
		return false, err
	case strings.Contains(out, "Power is on"):
		return true, nil
	case strings.Contains(out, "Power is off"):
		return false, nil
	}
	return false, &Error{Class: ClassOther, Address: i.Address, Doing: doing, Err: fmt.Errorf("ipmitool says %q", strings.TrimSpace(out))}
}

func (i ipmi) On(ctx context.Context) error  { return i.become(ctx, true, "switch it on", "on") }
func (i ipmi) Off(ctx context.Context) error { return i.become(ctx, false, "switch it off", "off") }

func (i ipmi) become(ctx context.Context, want bool, doing, command string) error {
	on, err := i.Power(ctx)
	if err != nil || on == want {
		return err
	}
	if _, err := i.run(ctx, doing, "chassis", "power", command); err != nil {
		return err
	}
	return reach(ctx, i.Config, doing, func() (bool, error) {
		on, err := i.Power(ctx)
		return on == want, err
	})
}

func (i ipmi) BootOnce(ctx context.Context, b Boot) error {
	const doing = "set the next boot"
	device := map[Source]string{PXE: "pxe", Disk: "disk"}[b.Source]
	if device == "" {
		return &Error{
			Class: ClassUnsupported, Address: i.Address, Doing: doing, Err: fmt.Errorf("IPMI can't boot from %q", b.Source),
			Hint: `use the boot source "pxe", or a controller with Redfish`,
		}
	}
	args := []string{"chassis", "bootdev", device}
	if b.Firmware == UEFI {
		args = append(args, "options=efiboot")
	}
	_, err := i.run(ctx, doing, args...)
	return err
}

// Eject: there are no virtual media with IPMI.
func (ipmi) Eject(context.Context, string) error { return nil }

// Tag reads the asset tag, 16 bytes at a time.
func (i ipmi) Tag(ctx context.Context) (string, error) {
	const doing = "read the asset tag"
	var tag []byte
	for {
		answer, err := i.raw(ctx, doing, dcmiGetAssetTag, len(tag), dcmiChunk, nil)
		if err != nil {
			return "", err
		}
		total, part := int(answer[1]), answer[2:]
		tag = append(tag, part...)
		if len(part) == 0 || len(tag) >= total || len(tag) > dcmiTagLength {
			tag = tag[:min(len(tag), total)]
			break
		}
	}
	return strings.Trim(string(bytes.TrimPrefix(tag, []byte("\xef\xbb\xbf"))), " \x00"), nil
}

// SetTag writes the asset tag, 16 bytes at a time: it is as long as the last write
// says. Not all controllers take an empty one: then it is a space.
func (i ipmi) SetTag(ctx context.Context, tag string) error {
	const doing = "write the asset tag"
	if len(tag) > dcmiTagLength {
		return &Error{
			Class: ClassUnsupported, Address: i.Address, Doing: doing, Err: fmt.Errorf("%q is longer than %d bytes", tag, dcmiTagLength),
			Hint: "shorten the asset tag of the machine",
		}
	}
	if tag == "" {
		if _, err := i.raw(ctx, doing, dcmiSetAssetTag, 0, 0, nil); ClassOf(err) != ClassUnsupported && ClassOf(err) != ClassOther || err == nil {
			return err
		}
		_, err := i.raw(ctx, doing, dcmiSetAssetTag, 0, 1, []byte{' '})
		return err
	}
	for at := 0; at < len(tag); at += dcmiChunk {
		part := tag[at:min(at+dcmiChunk, len(tag))]
		if _, err := i.raw(ctx, doing, dcmiSetAssetTag, at, len(part), []byte(part)); err != nil {
			return err
		}
	}
	return i.verifyTag(ctx, tag)
}

// raw sends a DCMI command about the asset tag, and gives the answer, which has at
// least two bytes.
func (i ipmi) raw(ctx context.Context, doing, command string, offset, count int, data []byte) ([]byte, error) {
	args := []string{"raw", dcmiGroup, command}
	for _, n := range []int{dcmiGroupID, offset, count} {
		args = append(args, "0x"+strconv.FormatInt(int64(n), 16))
	}
	for _, b := range data {
		args = append(args, "0x"+strconv.FormatUint(uint64(b), 16))
	}
	out, err := i.run(ctx, doing, args...)
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) && e.Class == ClassUnsupported {
			e.Hint = "the controller has no asset tag (DCMI)"
		}
		return nil, err
	}
	answer, err := hex.DecodeString(strings.Join(hexBytes(out), ""))
	if err != nil || len(answer) < 2 || answer[0] != dcmiGroupID {
		return nil, &Error{Class: ClassUnsupported, Address: i.Address, Doing: doing, Err: fmt.Errorf("no answer of DCMI: %q", strings.TrimSpace(out))}
	}
	return answer, nil
}

// hexBytes gives the bytes that ipmitool prints, without what -v adds.
func hexBytes(out string) []string {
	var all []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		for _, field := range fields {
			if _, err := hex.DecodeString(field); err != nil || len(field) != 2 {
				fields = nil
				break
			}
		}
		all = append(all, fields...)
	}
	return all
}

// reach waits until a machine is in the state that it was told to reach.
func reach(ctx context.Context, c Config, doing string, reached func() (bool, error)) error {
	deadline := time.Now().Add(c.Settle)
	for {
		there, err := reached()
		if err == nil && there {
			return nil
		}
		if err != nil && !ClassOf(err).passes() {
			return err
		}
		if err := wait(ctx, c.Poll); err != nil {
			return &Error{Class: ClassInterrupted, Address: c.Address, Doing: doing, Err: err}
		}
		if time.Now().After(deadline) {
			return &Error{Class: ClassTimeout, Address: c.Address, Doing: doing, Err: errors.New("the controller accepted it, and nothing has happened yet")}
		}
	}
}

// verifyTag reads a tag back that was written.
func (i ipmi) verifyTag(ctx context.Context, want string) error {
	got, err := i.Tag(ctx)
	if err != nil || got == strings.TrimSpace(want) {
		return err
	}
	return &Error{
		Class: ClassUnsupported, Address: i.Address, Doing: "write the asset tag",
		Err:  fmt.Errorf("the controller has kept %q of %q", got, want),
		Hint: "shorten the asset tag of the machine",
	}
}
