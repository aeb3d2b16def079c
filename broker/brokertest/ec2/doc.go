// Package ec2 is a stand-in for Amazon EC2 on a loopback port, for tests: the part of
// its Query API that Terraform's provider and the module modules/aws-ec2 call, with
// STS and the tagging API beside it. It is written from the API reference.
//
// A [Server] is the ground truth: what [Server.Left] names would be on the bill.
// Volumes and interfaces that a termination leaves behind stay there, as in EC2.
//
// # Requests
//
// All goes to one address: calls of EC2 and STS are forms with an Action, answered in
// XML; a call of the tagging API has the header X-Amz-Target, and is JSON. A request
// needs an Authorization header with the access key [AccessKey]; signatures are not
// checked. What the stand-in does not know (an action, a filter) it refuses, so
// that a test never passes because something was silently left out.
//
// # Where it is stricter than need be
//
// RunInstances takes a parameter either from the request or from the launch template,
// never from both: tag specifications of a request replace those of the template.
// Answers come in pages of [Config.PageSize], whether the caller asked for pages or not.
// The tagging API goes on to name instances that are terminated.
//
// # Where it is simpler
//
// A pending instance has no address yet. Terminated instances are listed for ever.
//
// # Nodes
//
// [SSHNodes] gives instances SSH servers, on addresses in 127.0.0.0/8, with the host
// key, authorized keys and host name that their user data names.
package ec2
