pool "values" {
  module     = "./modules/local"
  fill_level = "2"

  variables = {
    text     = "a \"quoted\" <text>\n"
    number   = 0.1
    large    = 123456789012345678901234567890
    bool     = true
    list     = ["a", 1, false, null]
    set      = toset(["b", "a"])
    object   = { z = 1, a = { y = [], b = {} } }
    template = "c${8 + 1}s-%{if true}x86_64%{endif}"
    for      = { for s in ["c9s", "c10s"] : s => upper(s) if s != "c10s" }
    heredoc  = <<-EOT
      #cloud-config
      users: []
    EOT
  }
}

pool "merged" {
  module    = "./modules/local"
  variables = merge({ size = "small" }, { "size" : "large" })
}
