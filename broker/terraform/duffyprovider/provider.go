// Package duffyprovider is the Terraform provider "duffy", for machines that stand
// somewhere: it claims one, boots it, waits for it, and gives it back. The
// duffy-broker binary serves it when it is run under the provider's name.
//
// It has two resources, since Terraform writes a resource into its state when that
// is done, and knows nothing of one whose create was killed. duffy_claim is made in
// seconds: who holds a machine is in the state before anything is done to it.
// duffy_machine does the rest, which takes minutes. Whatever is killed, the destroy
// of the claim switches the machine off and gives it back. Should the claim itself
// be cut short, nothing but the asset tag has changed, and the next node of the same
// broker takes it over.
//
// Each step looks first at what is so already, and can be done again.
package duffyprovider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/duffy-broker/duffy-broker/broker/bmc"
)

// What Terraform knows the provider by. Modules require it as "duffy-broker/duffy".
const (
	Namespace = "duffy-broker"
	Type      = "duffy"
	// Version is that of what modules see of the provider, not of the broker. Lock
	// files have it: a new one makes them wrong.
	Version = "1.0.0"

	programName = "terraform-provider-" + Type
)

// FileName is what the program is called that serves the provider.
func FileName() string { return programName + "_v" + Version }

// Invoked tells whether a program that was started under this name, the first of its
// arguments, is to serve the provider.
func Invoked(name string) bool { return strings.HasPrefix(filepath.Base(name), programName) }

// Options are for tests; the zero value is right.
type Options struct {
	// ClaimDelay is how long a claim must have stood unchanged: two brokers that claim
	// at once both find the machine free, but only the later one's claim is there then.
	// 0 means 2 s. It must be longer than what a controller takes from a read to the
	// following write.
	ClaimDelay time.Duration
	// Poll is how often is looked whether a machine is up; 0 means 1 s.
	Poll time.Duration
}

const (
	defaultClaimDelay = 2 * time.Second
	defaultPoll       = time.Second
)

// Serve serves the provider to the Terraform that has started this program, until
// that is done.
func Serve(ctx context.Context, o Options) error {
	return providerserver.Serve(ctx, func() provider.Provider { return New(o) }, providerserver.ServeOpts{
		Address: "registry.terraform.io/" + Namespace + "/" + Type, ProtocolVersion: 6,
	})
}

type duffyProvider struct{ Options }

// New gives the provider.
func New(o Options) provider.Provider {
	if o.ClaimDelay == 0 {
		o.ClaimDelay = defaultClaimDelay
	}
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	return &duffyProvider{o}
}

// site is a configured provider, as resources get to see it.
type site struct {
	Options

	config  bmc.Config
	missing string // what is not configured, "" if all is
}

// controller gives that of the machine.
func (s *site) controller() (bmc.Controller, error) {
	if s.missing != "" {
		return nil, &bmc.Error{Class: bmc.ClassConfiguration, Address: "the machine", Doing: "find its controller", Err: fmt.Errorf("%s", s.missing), Hint: missingHint}
	}
	return bmc.New(s.config)
}

const missingHint = `give each host of the inventory bmc = { address = "...", kind = "redfish" } (or "ipmi"), and credentials with REDFISH_USERNAME and REDFISH_PASSWORD (or IPMI_USERNAME and IPMI_PASSWORD)`

func (*duffyProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = Type, Version
}

func (*duffyProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "Machines that stand somewhere, switched through their management controllers. Credentials are in the environment: " +
			"REDFISH_USERNAME and REDFISH_PASSWORD, or IPMI_USERNAME and IPMI_PASSWORD.",
		Attributes: map[string]schema.Attribute{
			"bmc": schema.SingleNestedAttribute{
				Optional: true, Description: "The management controller. It stands here and not in the resources, so that a destroy finds it where it is now.",
				Attributes: map[string]schema.Attribute{
					"address":  schema.StringAttribute{Required: true, Description: "A URL for Redfish, a host or HOST:PORT for IPMI."},
					"kind":     schema.StringAttribute{Required: true, Description: "redfish or ipmi.", Validators: []validator.String{oneOf{"redfish", "ipmi"}}},
					"insecure": schema.BoolAttribute{Optional: true, Description: "Whether certificates are not verified."},
					"ca":       schema.StringAttribute{Optional: true, Description: "Certificates, in PEM, that the controller's may be signed with; those that the system trusts if not set."},
				},
			},
		},
	}
}

func (p *duffyProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config struct {
		BMC *struct {
			Address  types.String `tfsdk:"address"`
			Kind     types.String `tfsdk:"kind"`
			Insecure types.Bool   `tfsdk:"insecure"`
			CA       types.String `tfsdk:"ca"`
		} `tfsdk:"bmc"`
	}
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	s := &site{Options: p.Options}
	if b := config.BMC; b == nil {
		s.missing = "the host has no bmc"
	} else {
		s.config = bmc.Config{
			Kind: bmc.Kind(b.Kind.ValueString()), Address: b.Address.ValueString(), Insecure: b.Insecure.ValueBool(), CA: b.CA.ValueString(), Poll: p.Poll,
		}
		prefix := strings.ToUpper(b.Kind.ValueString())
		s.config.Username, s.config.Password = os.Getenv(prefix+"_USERNAME"), os.Getenv(prefix+"_PASSWORD")
		if s.config.Password == "" {
			s.missing = "there is no " + prefix + "_PASSWORD in the environment of the run"
		}
	}
	resp.ResourceData = s
}

func (*duffyProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		func() resource.Resource { return &claimResource{} },
		func() resource.Resource { return &machineResource{} },
	}
}

// DataSources: there is nothing to list. Which machines there are stands in the
// broker's inventories.
func (*duffyProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }

// Codes with which the summaries of errors begin that are not about a controller; the
// others are "BMC" and the class, as "BMCAuth". Modules sort errors by them.
const (
	codeClaimed      = "MachineClaimed"
	codeClaimMissing = "ClaimMissing"
	codeBootFiles    = "BootFiles"
	codeBootTimeout  = "BootTimeout"
	codeWipeTimeout  = "WipeTimeout"
	codeInterrupted  = "Interrupted"
)

// failure is an error with a code of its own.
type failure struct {
	code, hint string
	err        error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// report adds an error: "CODE: what".
func report(diags *diag.Diagnostics, err error, what string) {
	code, hint := "", bmc.HintOf(err)
	if f, ok := err.(*failure); ok { //nolint:errorlint // it is never wrapped
		code, hint = f.code, f.hint
	} else if class := string(bmc.ClassOf(err)); class != "" {
		code = "BMC" + strings.ToUpper(class[:1]) + class[1:]
	}
	detail := err.Error() + "."
	if hint != "" {
		detail += "\nWhat to do: " + hint
	}
	diags.AddError(code+": "+what, detail)
}

// oneOf refuses other texts.
type oneOf []string

func (o oneOf) Description(context.Context) string             { return "one of " + strings.Join(o, ", ") }
func (o oneOf) MarkdownDescription(ctx context.Context) string { return o.Description(ctx) }

func (o oneOf) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	for _, allowed := range o {
		if req.ConfigValue.ValueString() == allowed {
			return
		}
	}
	resp.Diagnostics.AddAttributeError(req.Path, "Not one of the values", fmt.Sprintf("It is %q, and must be one of: %s.", req.ConfigValue.ValueString(), strings.Join(o, ", ")))
}

// duration refuses what is no duration above 0.
type duration struct{}

func (duration) Description(context.Context) string { return "a duration, such as 90s or 1h" }

func (d duration) MarkdownDescription(ctx context.Context) string { return d.Description(ctx) }

func (duration) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if d, err := time.ParseDuration(req.ConfigValue.ValueString()); err != nil || d <= 0 {
		resp.Diagnostics.AddAttributeError(req.Path, "No duration", fmt.Sprintf("It is %q, and must be a duration above 0, such as 90s or 1h.", req.ConfigValue.ValueString()))
	}
}
