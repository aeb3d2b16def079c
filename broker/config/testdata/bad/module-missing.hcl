defaults {
  fill_level = 1
}

template "t" {}

pool "a" {
  extends = "t"
}
