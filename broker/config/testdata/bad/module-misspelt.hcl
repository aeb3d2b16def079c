pool "a" {
  moduel = "../modules/local"
}
