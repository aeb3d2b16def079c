pool "a" {
  extends = "base"
}
