pool "c" {
  fill_level = 3 +
}

pool "d" {
  fill_level = "x"
}
