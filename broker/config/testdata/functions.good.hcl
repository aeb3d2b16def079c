environment {
  allow = ["DUFFY_TEST_REGION", "DUFFY_TEST_NOWHERE"]
}

locals {
  name = "local"
}

pool "functions" {
  module = "./modules/local"

  variables = {
    abs              = abs(-3)
    alltrue          = [alltrue([true, true]), alltrue([true, false]), alltrue([])]
    anytrue          = [anytrue([false, true]), anytrue([false]), anytrue([])]
    base64           = base64decode(base64encode("hello"))
    basename         = "${dirname("a/b.txt")} ${basename("a/b.txt")}"
    can              = [can(tonumber("x")), can(tonumber("1"))]
    ceil             = "${ceil(1.2)} ${floor(1.8)}"
    chomp            = chomp("x\n")
    chunklist        = chunklist(["a", "b", "c"], 2)
    cidr             = [cidrhost("10.0.0.0/24", 5), cidrnetmask("10.0.0.0/24"), cidrsubnet("10.0.0.0/16", 8, 3)]
    cidrsubnets      = cidrsubnets("10.0.0.0/8", 8, 8)
    coalesce         = coalesce(null, "", "x")
    coalescelist     = coalescelist([], ["x"])
    compact          = compact(["a", "", "b"])
    concat           = concat(["a"], ["b"])
    contains         = contains(["a"], "a")
    csvdecode        = csvdecode("a,b\n1,2")
    distinct         = distinct(["a", "a"])
    element          = element(["a", "b"], 3)
    file             = yamldecode(file("systems.yaml")).systems
    filebase64       = filebase64("systems.yaml")
    fileexists       = [fileexists("systems.yaml"), fileexists("nowhere")]
    fileset          = fileset("modules", "*/*.tf")
    filesha256       = filesha256("systems.yaml") == sha256(file("systems.yaml"))
    flatten          = flatten([["a"], [["b"]]])
    format           = format("%s-%03d", "c9s", 7)
    formatdate       = formatdate("YYYY-MM-DD", timeadd("2026-01-31T00:00:00Z", "24h"))
    formatlist       = formatlist("n%d", [1, 2])
    hash             = [md5("a"), sha1("a"), sha512("a") == sha512("b")]
    indent           = indent(2, "a\nb")
    join             = join(",", split(" ", "a b"))
    json             = jsondecode(jsonencode({ a = [1] }))
    keys             = keys({ b = 1, a = 2 })
    length           = [length("höhe"), length([1, 2]), length({ a = 1 })]
    log              = log(16, 2)
    lookup           = lookup({ a = 1 }, "b", 2)
    lower            = "${lower("A")}${upper("a")}${title("ab cd")}"
    max              = [max(1, 3), min(1, 3)]
    merge            = merge({ a = 1 }, { b = 2 })
    one              = [one([]), one(["x"]), one(toset(["y"]))]
    parseint         = parseint("ff", 16)
    pow              = pow(2, 10)
    range            = range(3)
    regex            = regex("[a-z]+", "12ab34")
    regexall         = regexall("[a-z]", "1a2b")
    replace          = [replace("a.b.c", ".", "-"), replace("a1b2", "/[0-9]/", "_")]
    reverse          = reverse([1, 2])
    setintersection  = setintersection(["a", "b"], ["b"])
    setproduct       = setproduct(["a"], ["b", "c"])
    setsubtract      = setsubtract(["a", "b"], ["b"])
    setunion         = setunion(["a"], ["b"])
    signum           = signum(-5)
    slice            = slice(["a", "b", "c"], 1, 2)
    sort             = sort(["b", "a"])
    strings          = [startswith("c9s", "c9"), endswith("c9s", "c9"), strcontains("c9s", "9")]
    strrev           = strrev("abc")
    substr           = substr("abcdef", 1, 3)
    sum              = sum([1, 2, 3.5])
    to               = [tobool("true"), tonumber("1"), tostring(1)]
    tolist           = tolist(["a", 1])
    tomap            = tomap({ a = 1, b = "x" })
    toset            = toset(["a", "a"])
    trim             = "${trim("!a!", "!")}${trimprefix("xb", "x")}${trimspace(" c ")}${trimsuffix("dx", "x")}"
    try              = try(tonumber("x"), "fallback")
    urlencode        = urlencode("a b&c")
    values           = values({ b = 1, a = 2 })
    yamlencode       = yamlencode({ a = 1 })
    abspath          = [abspath("modules/../systems.yaml"), abspath("/etc//os-release")]
    base64gzip       = length(base64gzip("hello")) > 20 && base64gzip("hello") == base64gzip("hello")
    base64sha        = [base64sha256("a"), base64sha512("a") == base64sha512("b")]
    env              = [env("DUFFY_TEST_REGION"), env("DUFFY_TEST_NOWHERE", "default")]
    filehash         = [filemd5("systems.yaml") == md5(file("systems.yaml")), filesha1("systems.yaml") == sha1(file("systems.yaml")), filesha512("systems.yaml") == sha512(file("systems.yaml"))]
    filebase64sha    = [filebase64sha256("systems.yaml") == base64sha256(file("systems.yaml")), filebase64sha512("systems.yaml") == base64sha512(file("systems.yaml"))]
    index            = [index(["a", "b"], "b"), index([1, "x"], "x"), index([1, 2], "2")]
    matchkeys        = [matchkeys(["a", "b", "c"], ["1", "2", "1"], ["1"]), matchkeys(["a"], ["1"], ["2"])]
    rsadecrypt       = can(rsadecrypt("AAAA", "no key"))
    templatefile     = [templatefile("greeting.tftpl", { name = "c9s", sizes = ["small", "large"] }), templatefile("greeting.tftpl", { name = local.name, sizes = [] })]
    templatestring   = templatestring("$${upper(name)}-1", { name = "a" })
    textencode       = [textencodebase64("hé", "UTF-16LE"), textdecodebase64("aADpAA==", "UTF-16LE")]
    timecmp          = [timecmp("2026-01-31T00:00:00Z", "2026-01-31T01:00:00+01:00"), timecmp("2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z")]
    transpose        = transpose({ a = ["1", "2"], b = ["2"], c = [] })
    uuidv5           = uuidv5("dns", "example.org")
    zipmap           = zipmap(["a", "b"], [1, 2])
    path             = "${path.root}/modules"
  }
}
