# Locals may use each other in any order, and stand anywhere.
pool "a" {
  module      = local.modules["local"]
  description = local.title
  fill_level  = local.fill.large
  variables = {
    tags = merge(local.tags, { pool = "a" })
    none = local.none
    all  = [for local in local.list : local]
  }
}

locals {
  title = "Nodes of ${local.owner}"
  owner = upper(local.tags.team)
  none  = null
}

template "unused" {
  max_nodes = local["fill"].large * 2
}

locals {
  tags    = { team = "ci" }
  fill    = { large = length(local.list) + 1 }
  list    = [1, 2]
  modules = { local = "${path.root}/modules/local" }
}

legacy {
  map {
    pool = "${local.list[0] == 1 ? "a" : "b"}"
  }
}
