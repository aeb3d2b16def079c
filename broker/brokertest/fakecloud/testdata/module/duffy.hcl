# What the cloud's errors mean to the broker.
errors {
  throttled     = ["^Throttled:"]
  no_capacity   = ["^InsufficientCapacity:"]
  quota         = ["^QuotaExceeded:"]
  auth          = ["^AuthFailure:"]
  configuration = ["^InvalidConfiguration:"]
  unreachable   = ["^Unreachable:"]
  timeout       = ["^Timeout:"]
}
