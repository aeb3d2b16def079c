pool "none" {
  module     = "./modules/local"
  fill_level = 0
}

pool "one" {
  module     = "./modules/local"
  fill_level = 1
}

pool "ten" {
  module     = "./modules/local"
  fill_level = 10
}

# A node that gets no key is not asked for SSH, unless it is wanted.
pool "no-key" {
  module        = "./modules/local"
  contextualize = "none"
}

pool "no-key-but-ssh" {
  module        = "./modules/local"
  contextualize = "none"

  ready {
    ssh     = true
    command = "uptime"
  }
}

pool "nothing-checked" {
  module = "./modules/local"

  ready {
    ssh = false
  }
}
