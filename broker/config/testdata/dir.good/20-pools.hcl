pool "b" {
  extends = "base"
}

pool "a" {
  extends = "base"
}
