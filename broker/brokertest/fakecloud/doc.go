// Package fakecloud is a small cloud on a loopback port, for tests: it makes
// instances and forgets none of them, is slow, full, throttled, inconsistent or
// broken as told, and has a Terraform provider of its own.
//
// A [Cloud] is the ground truth: what it says exists is what would be on the
// bill. Tests compare with it what Terraform, the broker or a listing believe.
//
// # HTTP API
//
//	POST   /instances        creates one from a [Request]; answers an [Instance]
//	GET    /instances/{id}   reads one
//	DELETE /instances/{id}   deletes one
//	GET    /instances        lists: a [Page]
//
//	GET    /admin/faults     shows the [Faults]
//	PUT    /admin/faults     replaces them
//
// A listing takes tag=KEY=VALUE (more than once: all must match), limit=N and
// after=ID. An error is an [Error] in JSON. The admin part is for tests whose
// cloud is in another process; it is never slow and never fails.
//
// # What a call does, and when
//
// A call counts, passes the rate limit, meets the first failure that applies,
// takes effect, waits for its latency, and is answered, in this order. So a
// caller that goes away during the latency of a create has made an instance
// whose id it does not know, as in a real cloud.
//
// # Provider
//
// The program in terraform-provider-fakecloud is built and served by [Mirror].
// Modules require it as [ProviderSource].
package fakecloud
