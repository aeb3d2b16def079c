package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

// unusedTypes is how many resource types the schema has that can do nothing. It
// is set by the linker, to weigh as much as a large provider.
//
//nolint:gochecknoglobals // the linker sets globals only
var unusedTypes = "0"

// unusedAttributes is how many attributes each of them has.
const unusedAttributes = 25

func unusedResources() []func() resource.Resource {
	count, err := strconv.Atoi(unusedTypes)
	if err != nil {
		panic("fakecloud provider: -X main.unusedTypes is not a number: " + unusedTypes)
	}
	all := make([]func() resource.Resource, count)
	for i := range all {
		all[i] = func() resource.Resource { return unusedResource{number: i} }
	}
	return all
}

// unusedResource has a schema and refuses everything.
type unusedResource struct{ number int }

func (r unusedResource) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = fmt.Sprintf("fakecloud_unused_%d", r.number)
}

func (unusedResource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := make(map[string]schema.Attribute, unusedAttributes)
	for i := range unusedAttributes {
		attributes[fmt.Sprintf("attribute_%d", i)] = schema.StringAttribute{
			Optional: true, Description: "An attribute of a resource type that can do nothing: it has weight only.",
		}
	}
	resp.Schema = schema.Schema{Attributes: attributes}
}

func (r unusedResource) Create(_ context.Context, _ resource.CreateRequest, resp *resource.CreateResponse) {
	resp.Diagnostics.AddError(fmt.Sprintf("InvalidConfiguration: fakecloud_unused_%d can't be made", r.number), "This resource type has weight only.")
}

func (unusedResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

func (unusedResource) Update(context.Context, resource.UpdateRequest, *resource.UpdateResponse) {}

func (unusedResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
