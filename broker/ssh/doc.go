// Package ssh reaches nodes over SSH: it implements [broker.Contextualizer].
//
// A node's authorized_keys file has two parts. Above a marker line stands what
// the module put there, the broker's own key included; below it stand the keys of
// the tenant who has the node. The marker and what is below it belong to the
// broker, and go when the node is taken back.
//
// Every call is one TCP connection with at most one session. No host key but the
// recorded ones is ever accepted; only [Client.Check] meets a node without any,
// and returns the one it saw.
package ssh
