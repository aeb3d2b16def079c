pool "d" {
  fill_level = "x"
}

# The line of another file's mistake.

pool "c" {
  fill_level = 3 +
}
