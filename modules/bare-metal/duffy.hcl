# What errors of the provider mean. The most are about one machine: it goes into
# quarantine, and the next one is taken. So a wrong password of one controller is no
# "auth", upon which the whole pool would rest.
errors {
  timeout     = ["^BootTimeout: ", "^WipeTimeout: ", "^BMCTimeout: "]
  unreachable = ["^BMCUnreachable: ", "^BMCAuth: ", "^BMCBusy: "]
  interrupted = ["^Interrupted: ", "^BMCInterrupted: "]
  other       = ["^BMC[A-Z]", "^MachineClaimed: ", "^ClaimMissing: ", "^BootFiles: "]
}
