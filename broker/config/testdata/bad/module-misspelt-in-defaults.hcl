defaults {
  modul = "../modules/local"
}

pool "a" {}
