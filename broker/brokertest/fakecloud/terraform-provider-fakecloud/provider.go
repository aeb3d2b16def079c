package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

const (
	defaultBootTimeout    = 10 * time.Minute
	defaultRequestTimeout = 30 * time.Second
)

type fakecloudProvider struct{}

// account is a configured provider, as resources and data sources get to see it.
type account struct {
	client      client
	region      string
	defaultTags map[string]string
	bootTimeout time.Duration
}

func (*fakecloudProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = "fakecloud", fakecloud.ProviderVersion
}

func (*fakecloudProvider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"endpoint":        schema.StringAttribute{Required: true, Description: "URL of the cloud."},
		"region":          schema.StringAttribute{Optional: true, Description: "Where instances are made: a label."},
		"default_tags":    schema.MapAttribute{Optional: true, ElementType: types.StringType, Description: "Tags of every instance; an instance's own go before."},
		"boot_timeout":    schema.StringAttribute{Optional: true, Description: "How long an instance may be pending, as 90s: " + defaultBootTimeout.String() + " if not set."},
		"request_timeout": schema.StringAttribute{Optional: true, Description: "How long an answer may take, as 5s: " + defaultRequestTimeout.String() + " if not set."},
	}}
}

func (*fakecloudProvider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var config struct {
		Endpoint       string            `tfsdk:"endpoint"`
		Region         types.String      `tfsdk:"region"`
		DefaultTags    map[string]string `tfsdk:"default_tags"`
		BootTimeout    types.String      `tfsdk:"boot_timeout"`
		RequestTimeout types.String      `tfsdk:"request_timeout"`
	}
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	duration := func(name string, v types.String, otherwise time.Duration) time.Duration {
		if v.IsNull() {
			return otherwise
		}
		d, err := time.ParseDuration(v.ValueString())
		if err != nil || d <= 0 {
			resp.Diagnostics.AddAttributeError(path.Root(name), string(fakecloud.InvalidConfiguration)+": the provider can't be configured",
				fmt.Sprintf("%s must be a duration above 0, as 90s, and is %q.", name, v.ValueString()))
		}
		return d
	}
	a := &account{
		client: newClient(config.Endpoint, duration("request_timeout", config.RequestTimeout, defaultRequestTimeout)),
		region: config.Region.ValueString(), defaultTags: config.DefaultTags,
		bootTimeout: duration("boot_timeout", config.BootTimeout, defaultBootTimeout),
	}
	resp.ResourceData, resp.DataSourceData = a, a
}

func (*fakecloudProvider) Resources(context.Context) []func() resource.Resource {
	return append(unusedResources(), func() resource.Resource { return &instanceResource{} })
}

func (*fakecloudProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return &instancesDataSource{} }}
}

// report makes a diagnostic whose summary begins with the error's code.
func report(diags *diag.Diagnostics, err error, format string, args ...any) {
	diags.AddError(fmt.Sprintf("%s: %s", codeOf(err), fmt.Sprintf(format, args...)), err.Error())
}
