package main

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// instancesDataSource is fakecloud_instances: a listing.
type instancesDataSource struct{ *account }

var _ datasource.DataSourceWithConfigure = (*instancesDataSource)(nil)

type instancesModel struct {
	Tags      map[string]string `tfsdk:"tags"`
	PageSize  types.Int64       `tfsdk:"page_size"`
	Complete  types.Bool        `tfsdk:"complete"`
	Instances []listedInstance  `tfsdk:"instances"`
}

type listedInstance struct {
	ID        string            `tfsdk:"id"`
	Name      string            `tfsdk:"name"`
	Size      string            `tfsdk:"size"`
	Region    string            `tfsdk:"region"`
	State     string            `tfsdk:"state"`
	Tags      map[string]string `tfsdk:"tags"`
	Address   string            `tfsdk:"address"`
	CreatedAt string            `tfsdk:"created_at"`
}

func (*instancesDataSource) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "fakecloud_instances"
}

func (*instancesDataSource) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	text := schema.StringAttribute{Computed: true}
	tags := schema.MapAttribute{Computed: true, ElementType: types.StringType}
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"tags":      schema.MapAttribute{Optional: true, ElementType: types.StringType, Description: "Tags that listed instances have, all of them."},
		"page_size": schema.Int64Attribute{Optional: true, Description: "Instances in an answer of the cloud."},
		"complete":  schema.BoolAttribute{Computed: true, Description: "Whether the cloud says that this is all there is."},
		"instances": schema.ListNestedAttribute{Computed: true, NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"id": text, "name": text, "size": text, "region": text, "state": text, "tags": tags, "address": text, "created_at": text,
		}}},
	}}
}

func (d *instancesDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	d.account, _ = req.ProviderData.(*account) // nil before the provider is configured
}

func (d *instancesDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var model instancesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	all, complete, err := d.client.list(ctx, model.Tags, model.PageSize.ValueInt64())
	if err != nil {
		report(&resp.Diagnostics, err, "instances can't be listed")
		return
	}
	model.Complete, model.Instances = types.BoolValue(complete), []listedInstance{}
	for _, i := range all {
		model.Instances = append(model.Instances, listedInstance{
			ID: i.ID, Name: i.Name, Size: i.Size, Region: i.Region, State: string(i.State), Tags: i.Tags, Address: i.Address,
			CreatedAt: i.CreatedAt.Format(time.RFC3339),
		})
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, model)...)
}
