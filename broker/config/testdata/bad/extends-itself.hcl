template "a" {
  extends = "a"
}

pool "p" {
  extends = "a"
}
