package duffyprovider

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/duffy-broker/duffy-broker/broker/bmc"
)

const (
	// bootDir and doneFile are what the broker's boot server knows in the directory
	// of a node: the files that it serves, and what it was told at the end.
	bootDir  = "boot"
	doneFile = "boot-done.json"

	defaultBootTimeout = time.Hour
	defaultWipeTimeout = 6 * time.Hour
	defaultSSHPort     = 22
	// dialTimeout bounds one look whether SSH answers.
	dialTimeout = 5 * time.Second
)

// What a create waits for.
const (
	waitCallHome = "call_home"
	waitSSH      = "ssh"
	waitNone     = "none"
)

// machineResource is duffy_machine.
type machineResource struct{ *site }

var (
	_ resource.ResourceWithConfigure      = (*machineResource)(nil)
	_ resource.ResourceWithValidateConfig = (*machineResource)(nil)
)

type machineModel struct {
	ID          types.String `tfsdk:"id"`
	Name        types.String `tfsdk:"name"`
	Claim       types.String `tfsdk:"claim"`
	Directory   types.String `tfsdk:"directory"`
	Boot        *bootModel   `tfsdk:"boot"`
	Files       types.Map    `tfsdk:"files"`
	Wait        *waitModel   `tfsdk:"wait"`
	Wipe        *wipeModel   `tfsdk:"wipe"`
	Booted      types.Bool   `tfsdk:"booted"`
	SSHHostKeys types.List   `tfsdk:"ssh_host_keys"`
}

type bootModel struct {
	Source   types.String `tfsdk:"source"`
	URL      types.String `tfsdk:"url"`
	Firmware types.String `tfsdk:"firmware"`
}

func (b bootModel) boot() bmc.Boot {
	return bmc.Boot{Source: bmc.Source(b.Source.ValueString()), URL: b.URL.ValueString(), Firmware: bmc.Firmware(b.Firmware.ValueString())}
}

type waitModel struct {
	Until   types.String `tfsdk:"until"`
	Timeout types.String `tfsdk:"timeout"`
	Address types.String `tfsdk:"address"`
	Port    types.Int64  `tfsdk:"port"`
}

type wipeModel struct {
	Source   types.String `tfsdk:"source"`
	URL      types.String `tfsdk:"url"`
	Firmware types.String `tfsdk:"firmware"`
	Timeout  types.String `tfsdk:"timeout"`
}

func (w wipeModel) boot() bmc.Boot {
	return bootModel{w.Source, w.URL, w.Firmware}.boot()
}

func (*machineResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "duffy_machine"
}

func (*machineResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	boot := func() map[string]schema.Attribute {
		return map[string]schema.Attribute{
			"source": schema.StringAttribute{
				Required: true, Validators: []validator.String{oneOf{string(bmc.PXE), string(bmc.HTTP), string(bmc.VirtualMedia), string(bmc.Disk)}},
				Description: "pxe, http, virtual_media (both with Redfish only) or disk, for one boot.",
			},
			"url": schema.StringAttribute{Optional: true, Description: "What http loads, or the image for virtual_media."},
			"firmware": schema.StringAttribute{
				Optional: true, Validators: []validator.String{oneOf{string(bmc.UEFI), string(bmc.BIOS)}}, Description: "uefi or bios; as the machine is set up if not set.",
			},
		}
	}
	wipe := boot()
	wipe["timeout"] = schema.StringAttribute{Optional: true, Validators: []validator.String{duration{}}, Description: "How long it may take: " + defaultWipeTimeout.String() + " if not set."}
	resp.Schema = schema.Schema{
		Description: "A machine that was booted: switched off, told what to boot from, switched on, waited for. Its end wipes it, if that is asked for, and switches it off.",
		Attributes: map[string]schema.Attribute{
			"id":   schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}},
			"name": schema.StringAttribute{Required: true, PlanModifiers: replace, Description: "What errors call the machine."},
			"claim": schema.StringAttribute{
				Required: true, PlanModifiers: replace, Description: "The tag of a duffy_claim. Nothing is done to a machine that does not carry it; \"\": nothing is looked for.",
			},
			"directory": schema.StringAttribute{Required: true, PlanModifiers: replace, Description: "The broker's directory for the node: broker.directory."},
			"boot": schema.SingleNestedAttribute{
				Required: true, PlanModifiers: []planmodifier.Object{objectplanmodifier.RequiresReplace()}, Attributes: boot(), Description: "What the machine boots from.",
			},
			"files": schema.MapAttribute{
				Optional: true, Sensitive: true, ElementType: types.StringType, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
				Description: "What the broker serves to the machine while it boots, by path below /boot/TOKEN/.",
			},
			"wait": schema.SingleNestedAttribute{
				Required: true, PlanModifiers: []planmodifier.Object{objectplanmodifier.RequiresReplace()},
				Attributes: map[string]schema.Attribute{
					"until": schema.StringAttribute{
						Required: true, Validators: []validator.String{oneOf{waitCallHome, waitSSH, waitNone}},
						Description: "call_home: until the machine posts to /boot/TOKEN/done; ssh: until something speaks SSH at address and port; none.",
					},
					"timeout": schema.StringAttribute{Optional: true, Validators: []validator.String{duration{}}, Description: "How long it may take: " + defaultBootTimeout.String() + " if not set."},
					"address": schema.StringAttribute{Optional: true},
					"port":    schema.Int64Attribute{Optional: true, Description: "22 if not set."},
				},
			},
			"wipe": schema.SingleNestedAttribute{
				Optional: true, PlanModifiers: []planmodifier.Object{objectplanmodifier.RequiresReplace()}, Attributes: wipe,
				Description: "What a machine that was in use is booted into in the end: something that erases its disks and switches it off.",
			},
			"booted": schema.BoolAttribute{Computed: true, PlanModifiers: []planmodifier.Bool{boolplanmodifier.UseStateForUnknown()}, Description: "Whether what was waited for has come."},
			"ssh_host_keys": schema.ListAttribute{
				Computed: true, ElementType: types.StringType, PlanModifiers: []planmodifier.List{listplanmodifier.UseStateForUnknown()},
				Description: "The host keys that the machine has told when it called home.",
			},
		},
	}
}

func (r *machineResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.site, _ = req.ProviderData.(*site) // nil before the provider is configured
}

func (*machineResource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var model machineModel
	if diags := req.Config.Get(ctx, &model); diags.HasError() {
		return // something in it is not known yet
	}
	check := func(what string, b bmc.Boot, unknown bool) {
		if b.Source == bmc.VirtualMedia && b.URL == "" && !unknown {
			resp.Diagnostics.AddError("No image", what+" from virtual media needs the url of an image.")
		}
	}
	if model.Boot != nil {
		check("A boot", model.Boot.boot(), model.Boot.URL.IsUnknown())
	}
	if model.Wipe != nil {
		check("A wipe", model.Wipe.boot(), model.Wipe.URL.IsUnknown())
	}
	if w := model.Wait; w != nil && w.Until.ValueString() == waitSSH && w.Address.IsNull() {
		resp.Diagnostics.AddError("No address", "To wait for SSH takes an address.")
	}
	for name := range model.Files.Elements() {
		if !fs.ValidPath(name) || name == "." {
			resp.Diagnostics.AddError("Bad file name", fmt.Sprintf("%q must be a path such as ks.cfg or x/y, without dots at its beginning.", name))
		}
	}
}

func (r *machineResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model machineModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	model.ID = types.StringValue(filepath.Base(model.Directory.ValueString()))
	keys, err := r.boot(ctx, model)
	model.Booted = types.BoolValue(err == nil)
	elements := make([]attr.Value, len(keys))
	for i, key := range keys {
		elements[i] = types.StringValue(key)
	}
	model.SSHHostKeys = types.ListValueMust(types.StringType, elements)
	// In the state with an error too, as tainted: something was done to the machine.
	resp.Diagnostics.Append(resp.State.Set(context.WithoutCancel(ctx), model)...)
	if err != nil {
		report(&resp.Diagnostics, err, fmt.Sprintf("machine %q can't be booted", model.Name.ValueString()))
	}
}

// boot does all that a create is, from whatever the machine is in now, and gives the
// host keys that it tells.
func (r *machineResource) boot(ctx context.Context, model machineModel) ([]string, error) {
	c, err := r.controller()
	if err != nil {
		return nil, err
	}
	dir := model.Directory.ValueString()
	if err := r.start(ctx, c, model, model.Boot.boot(), model.Files); err != nil {
		return nil, err
	}
	keys, err := r.await(ctx, dir, *model.Wait)
	if err != nil {
		return nil, err
	}
	if b := model.Boot.boot(); b.Source == bmc.VirtualMedia && model.Wait.Until.ValueString() != waitNone {
		return keys, c.Eject(ctx, b.URL)
	}
	return keys, nil
}

// start boots a machine from b with these files to be had.
func (r *machineResource) start(ctx context.Context, c bmc.Controller, model machineModel, b bmc.Boot, files types.Map) error {
	if err := verify(ctx, c, model.Claim.ValueString()); err != nil {
		return err
	}
	// Off first: what runs there must not take the files for its own, and controllers
	// forget what to boot from when the power goes.
	if err := c.Off(ctx); err != nil {
		return err
	}
	if err := putFiles(ctx, model.Directory.ValueString(), files); err != nil {
		return &failure{code: codeBootFiles, err: err, hint: "directory must be broker.directory, and the broker must be able to write there"}
	}
	if err := c.BootOnce(ctx, b); err != nil {
		return err
	}
	return c.On(ctx)
}

// putFiles makes the files in the boot directory those that are wanted, and forgets
// an earlier end of a boot.
func putFiles(ctx context.Context, dir string, files types.Map) error {
	contents := map[string]string{}
	if diags := files.ElementsAs(ctx, &contents, false); !files.IsNull() && diags.HasError() {
		return errors.New("files is no map of texts")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, bootDir)), os.RemoveAll(filepath.Join(dir, doneFile))); err != nil {
		return err
	}
	if len(contents) == 0 {
		return nil
	}
	if err := os.Mkdir(filepath.Join(dir, bootDir), 0o700); err != nil {
		return err
	}
	tree, err := os.OpenRoot(filepath.Join(dir, bootDir)) // no name leads out of it
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }()
	for name, content := range contents {
		if err := tree.MkdirAll(filepath.Dir(filepath.FromSlash(name)), 0o700); err != nil {
			return err
		}
		if err := tree.WriteFile(filepath.FromSlash(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// await waits for what a create waits for.
func (r *machineResource) await(ctx context.Context, dir string, w waitModel) ([]string, error) {
	timeout := durationOf(w.Timeout, defaultBootTimeout)
	switch w.Until.ValueString() {
	case waitCallHome:
		var keys []string
		err := r.until(ctx, timeout, &failure{
			code: codeBootTimeout, err: fmt.Errorf("it has not called home within %s", timeout),
			hint: "look at its console: does it boot from what it should, does it reach the broker's --node-url, does the installer end with a POST to /boot/TOKEN/done?",
		}, func() (there bool, err error) {
			keys, there, err = readDone(dir)
			return there, err
		})
		return keys, err
	case waitSSH:
		port := int64(defaultSSHPort)
		if !w.Port.IsNull() {
			port = w.Port.ValueInt64()
		}
		address := net.JoinHostPort(w.Address.ValueString(), strconv.FormatInt(port, 10))
		return nil, r.until(ctx, timeout, &failure{
			code: codeBootTimeout, err: fmt.Errorf("nothing speaks SSH at %s after %s", address, timeout),
			hint: "look at its console: does it boot from what it should, and has it this address?",
		}, func() (bool, error) { return speaksSSH(ctx, address), nil })
	}
	return nil, nil
}

// until waits until there tells so; late is the error when it does not come.
func (r *machineResource) until(ctx context.Context, timeout time.Duration, late *failure, there func() (bool, error)) error {
	deadline := time.Now().Add(timeout)
	for {
		if ok, err := there(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return late
		}
		select {
		case <-ctx.Done():
			return &failure{code: codeInterrupted, err: errors.New("interrupted while the machine was booting")}
		case <-time.After(r.Poll):
		}
	}
}

// readDone reads what the boot server has written at the end of a boot.
func readDone(dir string) (keys []string, there bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, doneFile)) //nolint:gosec // the broker's
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, &failure{code: codeBootFiles, err: err}
	}
	var told struct {
		SSHHostKeys []string `json:"ssh_host_keys"`
	}
	_ = json.Unmarshal(text, &told) // it may have told nothing
	return told.SSHHostKeys, true, nil
}

// speaksSSH tells whether an SSH server greets.
func speaksSSH(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "SSH-")
}

func durationOf(v types.String, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(v.ValueString()); err == nil {
		return d
	}
	return otherwise
}

// Read changes nothing: a machine says nothing of how it was made. Whether it is
// still ours is for the claim.
func (*machineResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

func (*machineResource) Update(_ context.Context, _ resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.Diagnostics.AddError("Machines can't be changed", "This is a defect of the provider.")
}

func (r *machineResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model machineModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	err := r.remove(ctx, model)
	if isNotOurs(err) {
		resp.Diagnostics.AddWarning("Machine "+strconv.Quote(model.Name.ValueString())+" was left alone", "It is not claimed for this node any more: "+err.Error()+".")
		err = nil
	}
	if err == nil {
		err = removeFiles(model.Directory.ValueString())
	}
	if err != nil {
		report(&resp.Diagnostics, err, fmt.Sprintf("machine %q can't be wiped and switched off", model.Name.ValueString()))
	}
}

// remove wipes the machine and switches it off. One that was never ready has nothing
// of a tenant's on it, and is not wiped.
func (r *machineResource) remove(ctx context.Context, model machineModel) error {
	c, err := r.controller()
	if err != nil {
		return err
	}
	if err := stillOurs(ctx, c, model.Claim.ValueString()); err != nil {
		return err
	}
	images := []string{}
	if b := model.Boot.boot(); b.Source == bmc.VirtualMedia {
		images = append(images, b.URL)
	}
	if w := model.Wipe; w != nil && model.Booted.ValueBool() {
		if err := r.start(ctx, c, model, w.boot(), types.MapNull(types.StringType)); err != nil {
			return err
		}
		timeout := durationOf(w.Timeout, defaultWipeTimeout)
		err := r.until(ctx, timeout, &failure{
			code: codeWipeTimeout, err: fmt.Errorf("it was booted to be wiped, and has not switched itself off within %s", timeout),
			hint: "look at its console: does what it boots erase the disks and end with poweroff?",
		}, func() (bool, error) {
			on, err := c.Power(ctx)
			return !on, err
		})
		if err != nil {
			return err
		}
		if b := w.boot(); b.Source == bmc.VirtualMedia {
			images = append(images, b.URL)
		}
	}
	if err := c.Off(ctx); err != nil {
		return err
	}
	for _, image := range images {
		if err := c.Eject(ctx, image); err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes what the resource has put into the node's directory, and that
// if nothing else is in there.
func removeFiles(dir string) error {
	err := errors.Join(os.RemoveAll(filepath.Join(dir, bootDir)), os.RemoveAll(filepath.Join(dir, doneFile)))
	if err != nil {
		return &failure{code: codeBootFiles, err: err}
	}
	_ = os.Remove(dir) // it may have more in it, or be gone
	return nil
}

func isNotOurs(err error) bool {
	_, ok := errors.AsType[errNotOurs](err)
	return ok
}
