package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/listplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// Between two looks at an instance that boots.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// instanceResource is fakecloud_instance. The cloud changes nothing about an
// instance, so that every change makes a new one.
type instanceResource struct{ *account }

var (
	_ resource.ResourceWithConfigure   = (*instanceResource)(nil)
	_ resource.ResourceWithImportState = (*instanceResource)(nil)
)

type instanceModel struct {
	ID            types.String      `tfsdk:"id"`
	Name          types.String      `tfsdk:"name"`
	Size          types.String      `tfsdk:"size"`
	Region        types.String      `tfsdk:"region"`
	Tags          map[string]string `tfsdk:"tags"`
	SSH           types.Bool        `tfsdk:"ssh"`
	SSHPublicKeys []string          `tfsdk:"ssh_public_keys"`
	Address       types.String      `tfsdk:"address"`
	SSHPort       types.Int64       `tfsdk:"ssh_port"`
}

func (*instanceResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "fakecloud_instance"
}

func (*instanceResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	stays := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"id":   schema.StringAttribute{Computed: true, PlanModifiers: stays},
		"name": schema.StringAttribute{Required: true, PlanModifiers: replace},
		"size": schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString("small"), PlanModifiers: replace},
		"tags": schema.MapAttribute{
			Optional: true, ElementType: types.StringType, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
		},
		"ssh": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(false), PlanModifiers: []planmodifier.Bool{boolplanmodifier.RequiresReplace()},
			Description: "Whether the instance runs a real SSH server.",
		},
		"ssh_public_keys": schema.ListAttribute{
			Optional: true, ElementType: types.StringType, PlanModifiers: []planmodifier.List{listplanmodifier.RequiresReplace()},
			Description: "authorized_keys lines of whom the SSH server lets in.",
		},
		"region":   schema.StringAttribute{Computed: true, PlanModifiers: stays},
		"address":  schema.StringAttribute{Computed: true, PlanModifiers: stays},
		"ssh_port": schema.Int64Attribute{Computed: true, PlanModifiers: []planmodifier.Int64{int64planmodifier.UseStateForUnknown()}},
	}}
}

func (r *instanceResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.account, _ = req.ProviderData.(*account) // nil before the provider is configured
}

func (r *instanceResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model instanceModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	tags := map[string]string{}
	maps.Copy(tags, r.defaultTags)
	maps.Copy(tags, model.Tags)
	i, err := r.client.create(ctx, fakecloud.Request{
		Name: model.Name.ValueString(), Size: model.Size.ValueString(), Region: r.region, Tags: tags,
		SSH: model.SSH.ValueBool(), SSHPublicKeys: model.SSHPublicKeys,
	})
	if err != nil {
		report(&resp.Diagnostics, err, "instance %q can't be created", model.Name.ValueString())
		return
	}
	// From here on it exists, and is in the state: with an error, as tainted.
	last, err := r.waitForBoot(ctx, i)
	model.observe(last)
	resp.Diagnostics.Append(resp.State.Set(context.WithoutCancel(ctx), model)...)
	if err != nil {
		report(&resp.Diagnostics, err, "instance %s (%q) was created but does not run", i.ID, i.Name)
	}
}

// waitForBoot gives what is known last of an instance, with an error too.
func (r *instanceResource) waitForBoot(ctx context.Context, i fakecloud.Instance) (fakecloud.Instance, error) {
	deadline := time.After(r.bootTimeout)
	for pause := firstPause; i.State == fakecloud.Pending; pause = min(2*pause, lastPause) {
		select {
		case <-ctx.Done():
			return i, &fakecloud.Error{Code: codeInterrupted, Message: "interrupted while it was booting"}
		case <-deadline:
			return i, &fakecloud.Error{Code: fakecloud.Timeout, Message: fmt.Sprintf("still pending after %s", r.bootTimeout)}
		case <-time.After(pause):
		}
		seen, err := r.client.read(ctx, i.ID)
		if err != nil {
			return i, err
		}
		i = seen
	}
	if i.State != fakecloud.Running {
		return i, &fakecloud.Error{Code: codeBootFailed, Message: fmt.Sprintf("its state is %s", i.State)}
	}
	return i, nil
}

// observe takes over what the cloud decides.
func (m *instanceModel) observe(i fakecloud.Instance) {
	m.ID, m.Region = types.StringValue(i.ID), types.StringValue(i.Region)
	m.Address, m.SSHPort = types.StringValue(i.Address), types.Int64Value(int64(i.SSHPort))
}

func (r *instanceResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model instanceModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	i, err := r.client.read(ctx, model.ID.ValueString())
	switch {
	case err != nil && codeOf(err) == fakecloud.NotFound:
		resp.State.RemoveResource(ctx)
		return
	case err != nil:
		report(&resp.Diagnostics, err, "instance %s can't be read", model.ID.ValueString())
		return
	}
	if model.Name.IsNull() { // it is being imported
		model.Name, model.Size, model.SSH = types.StringValue(i.Name), types.StringValue(i.Size), types.BoolValue(i.SSH)
		model.SSHPublicKeys = i.SSHPublicKeys
		for key, value := range i.Tags {
			if byDefault, ok := r.defaultTags[key]; ok && byDefault == value {
				continue
			}
			if model.Tags == nil {
				model.Tags = map[string]string{}
			}
			model.Tags[key] = value
		}
	}
	model.observe(i)
	resp.Diagnostics.Append(resp.State.Set(ctx, model)...)
}

func (*instanceResource) Update(_ context.Context, _ resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.Diagnostics.AddError(string(fakecloud.InvalidConfiguration)+": instances can't be changed", "This is a defect of the provider.")
}

func (r *instanceResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var id string
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("id"), &id)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.client.delete(ctx, id); err != nil && codeOf(err) != fakecloud.NotFound {
		report(&resp.Diagnostics, err, "instance %s can't be deleted", id)
	}
}

func (*instanceResource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("id"), req, resp)
}
