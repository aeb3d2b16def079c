package duffyprovider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/duffy-broker/duffy-broker/broker/bmc"
)

// claimResource is duffy_claim.
type claimResource struct{ *site }

var _ resource.ResourceWithConfigure = (*claimResource)(nil)

type claimModel struct {
	ID       types.String `tfsdk:"id"`
	BrokerID types.String `tfsdk:"broker_id"`
	NodeID   types.String `tfsdk:"node_id"`
	AssetTag types.Bool   `tfsdk:"asset_tag"`
	Tag      types.String `tfsdk:"tag"`
}

func (m claimModel) claim() bmc.Claim {
	return bmc.NewClaim(m.BrokerID.ValueString(), m.NodeID.ValueString())
}

func (*claimResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "duffy_claim"
}

func (*claimResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	stays := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{
		Description: "The right to a machine, in its asset tag. A machine that another broker has claimed is never touched. Its end switches the machine off.",
		Attributes: map[string]schema.Attribute{
			"id":        schema.StringAttribute{Computed: true, PlanModifiers: stays},
			"broker_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Description: "The broker: a UUID."},
			"node_id":   schema.StringAttribute{Required: true, PlanModifiers: replace, Description: "The node: 16 hex digits."},
			"asset_tag": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true), PlanModifiers: []planmodifier.Bool{boolplanmodifier.RequiresReplace()},
				Description: "Whether the claim is written into the asset tag. false, for controllers that keep none, protects from no other broker.",
			},
			"tag": schema.StringAttribute{Computed: true, PlanModifiers: stays, Description: "The claim as it stands in the asset tag; \"\" if it does not. For duffy_machine."},
		},
	}
}

func (r *claimResource) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.site, _ = req.ProviderData.(*site) // nil before the provider is configured
}

func (r *claimResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var model claimModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	const what = "the machine can't be claimed"
	c, err := r.controller()
	if err != nil {
		report(&resp.Diagnostics, err, what)
		return
	}
	model.ID, model.Tag = types.StringValue(model.claim().String()), types.StringValue("")
	if model.AssetTag.ValueBool() {
		if err := r.take(ctx, c, model.claim()); err != nil {
			report(&resp.Diagnostics, err, what)
			return
		}
		model.Tag = model.ID
	}
	resp.Diagnostics.Append(resp.State.Set(context.WithoutCancel(ctx), model)...)
}

// take writes a claim into the asset tag, unless another broker's is there. One of
// the same broker is taken over: that node is gone, or the broker would not give its
// machine to another one.
func (r *claimResource) take(ctx context.Context, c bmc.Controller, claim bmc.Claim) error {
	if !claim.Valid() {
		return &failure{code: "BMCConfiguration", err: fmt.Errorf("%s is no claim", claim), hint: "broker_id is a UUID, and node_id has 16 hex digits"}
	}
	own, err := r.heldByUs(ctx, c, claim)
	if err != nil {
		return withoutTag(err)
	}
	if err := c.SetTag(ctx, claim.Tag(own)); err != nil {
		return withoutTag(err)
	}
	select {
	case <-ctx.Done():
		return &failure{code: codeInterrupted, err: ctx.Err()}
	case <-time.After(r.ClaimDelay):
	}
	if _, err = r.heldByUs(ctx, c, claim); err != nil {
		return err
	}
	return verify(ctx, c, claim.String())
}

// withoutTag says what can be done where there is no asset tag.
func withoutTag(err error) error {
	if bmc.ClassOf(err) != bmc.ClassUnsupported {
		return err
	}
	return &failure{
		code: "BMCUnsupported", err: err,
		hint: `without an asset tag nothing keeps another broker from this machine: if no other broker has it, give the host the attribute claim = "none", or the pool the variable claim = "none"`,
	}
}

// heldByUs gives what else stands in the asset tag, and an error if another broker's
// claim does.
func (*claimResource) heldByUs(ctx context.Context, c bmc.Controller, claim bmc.Claim) (own string, err error) {
	tag, err := c.Tag(ctx)
	if err != nil {
		return "", err
	}
	own, holder, claimed := bmc.ParseTag(tag)
	if claimed && !strings.HasPrefix(claim.Broker, holder.Broker) {
		return "", &failure{
			code: codeClaimed,
			err:  fmt.Errorf("another duffy-broker has it: the one whose id begins with %s, for its node %s; the asset tag is %q", holder.Broker, holder.Node, tag),
			hint: fmt.Sprintf("take the machine out of the inventory of one of the brokers; if the other one has gone for good, set the asset tag to %q", own),
		}
	}
	return own, nil
}

// errNotOurs: the claim does not stand in the asset tag (any more).
type errNotOurs struct{ tag string }

func (e errNotOurs) Error() string { return fmt.Sprintf("its asset tag is %q", e.tag) }

// verify tells whether the machine is claimed so, with an errNotOurs if not. An
// empty claim is no claim, and always right.
func verify(ctx context.Context, c bmc.Controller, claim string) error {
	if claim == "" {
		return nil
	}
	tag, err := c.Tag(ctx)
	if err != nil {
		return err
	}
	if _, holder, claimed := bmc.ParseTag(tag); !claimed || holder.String() != claim {
		return &failure{code: codeClaimed, err: errNotOurs{tag}, hint: "somebody else has claimed the machine, or its asset tag was set by hand"}
	}
	return nil
}

// nobodysClaim is for operators: no broker touches a machine with it.
const nobodysClaim = "duffy:000000000000"

// stillOurs is verify for the end of a node: with an errNotOurs the machine is left
// alone and forgotten. A machine that is on and carries no claim at all is not: its
// controller may have lost the tag, or a tenant has written it from within.
func stillOurs(ctx context.Context, c bmc.Controller, claim string) error {
	err := verify(ctx, c, claim)
	lost, ok := errors.AsType[errNotOurs](err)
	if !ok {
		return err
	}
	if _, _, claimed := bmc.ParseTag(lost.tag); claimed {
		return err
	}
	on, powerErr := c.Power(ctx)
	if powerErr != nil {
		return powerErr
	}
	if !on { // given back by a destroy that was cut short
		return err
	}
	return &failure{
		code: codeClaimMissing, err: fmt.Errorf("it is on, and its asset tag is %q, without the claim %s", lost.tag, claim),
		hint: fmt.Sprintf("set its asset tag to %q for the node to give it back; if it is somebody else's now, to %q: then it is left alone, by all brokers",
			strings.TrimSpace(lost.tag+" "+claim), nobodysClaim),
	}
}

func (r *claimResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var model claimModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() || model.Tag.ValueString() == "" {
		return
	}
	c, err := r.controller()
	if err == nil {
		err = stillOurs(ctx, c, model.Tag.ValueString())
	}
	switch {
	case isNotOurs(err):
		resp.Diagnostics.AddWarning("The machine is not claimed any more", err.Error())
		resp.State.RemoveResource(ctx)
	case err != nil:
		report(&resp.Diagnostics, err, "the claim on the machine can't be read")
	}
}

func (*claimResource) Update(_ context.Context, _ resource.UpdateRequest, resp *resource.UpdateResponse) {
	resp.Diagnostics.AddError("Claims can't be changed", "This is a defect of the provider.")
}

// Delete switches the machine off and takes the claim out of its tag. What is not
// ours any more is left alone.
func (r *claimResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var model claimModel
	resp.Diagnostics.Append(req.State.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	c, err := r.controller()
	if err == nil {
		err = stillOurs(ctx, c, model.Tag.ValueString())
	}
	if isNotOurs(err) {
		resp.Diagnostics.AddWarning("The machine was left alone", "It is not claimed for this node any more: "+err.Error()+".")
		return
	}
	if err == nil {
		err = c.Off(ctx)
	}
	if err == nil && model.Tag.ValueString() != "" {
		err = release(ctx, c)
	}
	if err != nil {
		report(&resp.Diagnostics, err, "the machine can't be given back")
	}
}

// release leaves in the asset tag what was there before the claim.
func release(ctx context.Context, c bmc.Controller) error {
	tag, err := c.Tag(ctx)
	if err != nil {
		return err
	}
	own, _, claimed := bmc.ParseTag(tag)
	if !claimed {
		return nil
	}
	return c.SetTag(ctx, own)
}
