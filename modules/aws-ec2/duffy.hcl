# What the errors of the AWS provider and of EC2 mean to the broker. The codes are EC2's;
# where an instance gives up after its start, its reason has "Server." or "Client." in front.
errors {
  throttled = ["RequestLimitExceeded", "\\bThrottling", "EC2ThrottledException", "\\bSlowDown\\b"]

  # Another zone, type or market may have room. Some zones lack a type altogether:
  # "Unsupported" says that, too.
  no_capacity = [
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientCapacityOnHost", "InsufficientVolumeCapacity",
    "InsufficientFreeAddressesInSubnet", "SpotMaxPriceTooLow", "Unsupported: .*not supported in your requested Availability Zone", "Server\\.SpotInstanceTermination",
  ]

  quota = [
    "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded", "MaxIOPSLimitExceeded", "SecurityGroupLimitExceeded",
    "NetworkInterfaceLimitExceeded", "AddressLimitExceeded", "VersionLimitExceeded", "ResourceLimitExceeded", "\\bLaunchTemplate\\w*LimitExceeded",
  ]

  auth = [
    "UnauthorizedOperation", "AuthFailure", "AccessDenied", "OptInRequired", "PendingVerification", "\\bBlocked: ", "ExpiredToken", "InvalidClientTokenId", "UnrecognizedClientException",
    "SignatureDoesNotMatch", "RequestExpired", "MissingAuthenticationToken", "(?i)no valid credential sources", "no EC2 IMDS role found", "failed to refresh cached credentials",
    "Cannot assume IAM Role",
  ]

  # "Client.InternalError" is no such thing: see below.
  unreachable = ["RequestError: send request failed", "(^|[^.\\w])InternalError", "Server\\.InternalError", "\\bInternalFailure\\b", "ServiceUnavailable", "\\bUnavailable: "]

  configuration = [
    "^Resource precondition failed", "InvalidAMIID", "InvalidSubnetID", "InvalidSubnet:", "InvalidGroup\\.NotFound", "InvalidGroupId", "InvalidParameter", "InvalidBlockDeviceMapping", "InvalidUserData", "InvalidInstanceType",
    "InvalidKeyPair", "MissingParameter", "UnsupportedOperation", "Unsupported: ", "query returned no results", "no matching .* found", "(?i)missing region|invalid aws region",
    "Client\\.InvalidSnapshot", "Client\\.InternalError", # the latter: an encrypted volume whose key may not be used
  ]

  timeout = ["timeout while waiting for state"]
}

# The security group of a node can't go while an instance uses it that a killed create
# has lost.
sweep {
  before_destroy = true
}
