terraform {
  runs = 4
}
