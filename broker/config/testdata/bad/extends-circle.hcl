template "outside" {
  extends = "b"
}

template "a" {
  module  = "../modules/local"
  extends = "c"
}

template "b" {
  extends = "a"
}

template "c" {
  extends = "b"
}

pool "p" {
  extends = "outside"
}
