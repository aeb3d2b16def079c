# null is "not set", so it inherits; but a variable that is null is passed on.
defaults {
  module        = "./modules/local"
  fill_level    = 5
  contextualize = "none"
  variables     = { size = "large", zone = "a" }
}

pool "nulls" {
  extends       = null
  module        = null
  fill_level    = null
  contextualize = null
  variables     = { zone = null }
}

pool "no-variables" {
  variables = null
}
