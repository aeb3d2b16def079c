# Words of Nova, Neutron, Cinder and Glance, and of gophercloud, which the provider
# talks to them with. A quota is refused with 403 or 413 too, so it comes first.
errors {
  quota = [
    "(?i)quota exceeded|exceeded for (instances|cores|ram)|over ?quota|(volume|snapshot) ?(limit|size) ?exceeded|exceeds allowed .{0,40}quota",
    "(?i)maximum number of (ports|floating|servers in the group)",
  ]

  no_capacity = [
    "(?i)no valid host was found|exhausted all hosts|max retries exceeded scheduling|no weighed backends",
    "(?i)no more ip addresses available|ip ?address ?generation ?failure|external ?ip ?address ?exhausted|subnets exhausted",
    # Provider 1.54.1 does not say why a server went into ERROR. That the scheduler
    # has found no host is the common reason, and the one that a variant can mend.
    "to become ready: unexpected state 'ERROR'",
  ]

  throttled = [
    "Too many requests have been sent in a given amount of time",
    "(?i)\"?over ?limit\"?|got (413|429) instead|This request was rate-limited",
  ]

  unreachable = [
    "The service is currently unable to handle the request",
    "got 50[0234] instead|Internal Server Error",
  ]

  auth = [
    "Authentication failed|Request forbidden:|got 40[13] instead",
    "(?i)the request you have made requires authentication|disallowed by policy|is not allowed to be performed",
  ]

  configuration = [
    "Your query returned no|Your query returned more than one|No Flavor found|No Security Group found|More than one Security Group found",
    "Bad request with:|Resource not found:|No suitable endpoint could be found|You must provide exactly one IDP|Cloud .{1,80} does not exist|auth_url.{0,40} must be specified",
    "One of 'auth_url' or 'cloud' must be specified",
  ]
}

# The sweep finds a server by its port, which a destroy of what a killed create has
# left in the state would remove.
sweep {
  before_destroy = true
}
