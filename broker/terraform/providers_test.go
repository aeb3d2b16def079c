package terraform

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckSharing(t *testing.T) {
	const nodes = `
variable "broker" {}
resource "cloud_vm" "node" { tags = var.broker.tags }
`
	tests := map[string]struct {
		files map[string]string
		want  []string // positions and what is wrong, none: it can be shared
	}{
		"no provider block": {files: map[string]string{"main.tf": nodes}},
		"the pool's variables": {files: map[string]string{"main.tf": nodes + `
locals {
  prefix = "x-${var.region}"
  unused = var.broker.id
}
provider "cloud" {
  region = var.region
  zone   = "${local.prefix}-a"
  key    = file("${path.module}/key")
  assume_role { arn = jsondecode(var.roles)["uuid"] }
}`}},
		"var.broker": {
			files: map[string]string{"main.tf": nodes + "provider \"cloud\" {\n  default_tags { tags = var.broker.tags }\n}\n"},
			want:  []string{`main.tf:5: provider "cloud" depends on var.broker, which is about the node`},
		},
		"all of var": {
			files: map[string]string{"main.tf": "provider \"cloud\" {\n  x = var[\"broker\"]\n}\n"},
			want:  []string{`main.tf:2: provider "cloud" depends on var, which may differ from node to node`},
		},
		"locals": {
			files: map[string]string{
				"locals.tf": "locals {\n  a = local.b\n  b = merge(local.a, { n = var.broker.node_id })\n}\n",
				"main.tf":   "provider \"cloud\" {\n\n  tags = local.a\n}\n",
			},
			want: []string{`main.tf:3: provider "cloud" depends on var.broker, which is about the node`},
		},
		"other references": {
			files: map[string]string{"main.tf": `provider "cloud" {
  a = cloud_vm.node.id
  b = data.cloud_region.here.name
  c = module.net.id
  d = terraform.workspace
  e = path.cwd
  f = ephemeral.cloud_token.t.value
  g {
    h = [for r in var.regions : "${r}-${module.net.id}"]
  }
}
`},
			want: []string{
				`main.tf:2: provider "cloud" depends on cloud_vm.node, which may differ from node to node`,
				`main.tf:3: provider "cloud" depends on data.cloud_region, which may differ from node to node`,
				`main.tf:4: provider "cloud" depends on module.net, which may differ from node to node`,
				`main.tf:5: provider "cloud" depends on terraform.workspace, which may differ from node to node`,
				`main.tf:6: provider "cloud" depends on path.cwd, which may differ from node to node`,
				`main.tf:7: provider "cloud" depends on ephemeral.cloud_token, which may differ from node to node`,
				`main.tf:9: provider "cloud" depends on module.net, which may differ from node to node`,
			},
		},
		"impure functions": {
			files: map[string]string{"main.tf": "locals {\n  now = timestamp()\n}\nprovider \"cloud\" {\n  a = uuid()\n  b = local.now\n  c = abspath(path.root)\n}\n"},
			want: []string{
				`main.tf:5: provider "cloud" depends on uuid(), which differs from run to run`,
				`main.tf:6: provider "cloud" depends on timestamp(), which differs from run to run`,
				`main.tf:7: provider "cloud" depends on abspath(), which differs from run to run`,
			},
		},
		"alias": {
			files: map[string]string{"main.tf": "provider \"cloud\" {}\nprovider \"cloud\" {\n  alias = \"west\"\n}\n"},
			want:  []string{`main.tf:3: provider "cloud" has an alias`},
		},
		"configuration_aliases": {
			files: map[string]string{"main.tf": "terraform {\n  required_providers {\n    cloud = {\n      source = \"x/cloud\"\n      configuration_aliases = [cloud.west]\n    }\n  }\n}\n"},
			want:  []string{`main.tf:5: provider "cloud" has configuration_aliases`},
		},
		"providers handed on": {
			files: map[string]string{"main.tf": "module \"net\" {\n  source = \"./net\"\n  providers = { cloud = cloud }\n}\n"},
			want:  []string{`main.tf:3: module "net" is given providers`},
		},
		"modules used": {
			files: map[string]string{
				"main.tf":     "module \"net\" {\n  source = \"./net\"\n}\n",
				"net/main.tf": "locals {\n  x = var.broker\n}\nprovider \"cloud\" {}\nmodule \"deep\" {\n  source = \"git\"\n  providers = {}\n}\n",
				// A module that nothing uses.
				"other/main.tf":                         `provider "cloud" { alias = "x" }`,
				".terraform/modules/net.deep/x/main.tf": `provider "cloud" {}`,
				".terraform/modules/modules.json": `{"Modules":[{"Key":"","Source":"","Dir":"."},{"Key":"net","Source":"./net","Dir":"net"},
					{"Key":"net.deep","Source":"git","Dir":".terraform/modules/net.deep/x"},{"Key":"again","Source":"./net","Dir":"net"}]}`,
			},
			want: []string{
				`.terraform/modules/net.deep/x/main.tf:1: provider "cloud" is configured in a module that the pool's module uses`,
				`net/main.tf:4: provider "cloud" is configured in a module that the pool's module uses`,
				`net/main.tf:7: module "deep" is given providers`,
			},
		},
		"JSON": {
			files: map[string]string{"main.tf.json": `{
  "locals": {"mine": "${var.broker.tags}"},
  "provider": {"cloud": {
    "region": "${var.region}",
    "default_tags": {"tags": "${local.mine}"},
    "token": "${uuid()}"
  }},
  "terraform": {"required_providers": {"other": {"source": "x/other", "configuration_aliases": ["other.a"]}}}
}`},
			want: []string{
				`main.tf.json:5: provider "cloud" depends on var.broker, which is about the node`,
				`main.tf.json:6: provider "cloud" depends on uuid(), which differs from run to run`,
				`main.tf.json:8: provider "other" has configuration_aliases`,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.files {
				write(t, filepath.Join(root, path), text)
			}
			var got []string
			for _, problem := range checkSharing(root) {
				got = append(got, strings.TrimSuffix(problem.String(), ": its providers can't be shared"))
				if !strings.Contains(problem.Hint, "remove provider_sharing") {
					t.Errorf("hint %q", problem.Hint)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
