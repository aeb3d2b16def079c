# What the broker keeps in stock. A pull request on this file, or on modules/, gets
# a comment with what it would do; merging it makes the broker do just that.

policy {
  deny "too-large" {
    condition = new != null && new.max_nodes > 50
    message   = "pool ${new.name} may have ${new.max_nodes} nodes: 50 are the most without the budget's owner"
  }

  warn "in-use" {
    condition = new == null && stock.lent > 0
    message   = "pool ${old.name} has ${stock.lent} lent nodes: their sessions end before they go"
  }
}

defaults {
  module     = "./modules/node"
  fill_level = 2
  max_nodes  = 10

  # The example's nodes exist in Terraform's state only. Real ones speak SSH.
  contextualize = "none"

  rollout {
    pause_after = 2
  }
}

# One pool for each release and architecture: centos-9s-x86_64, ...
pool "centos" {
  for_each = {
    for pair in setproduct(["9s", "10s"], ["x86_64", "aarch64"]) :
    "${pair[0]}-${pair[1]}" => { release = pair[0], arch = pair[1] }
  }

  variables   = each.value
  hourly_cost = each.value.arch == "aarch64" ? 0.03 : 0.04
  labels      = { team = "ci" }
}
