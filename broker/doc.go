// Package broker is the domain of duffy-broker: pools of nodes that are made
// ahead of demand by Terraform and lent to tenants in sessions.
//
// It depends on the standard library only. What it needs from the outside
// stands here as interfaces ([Store], [Provisioner], [Contextualizer]); the
// binary in cmd/duffy-broker is the only place where they meet their
// implementations.
//
// # Vocabulary
//
// A pool holds nodes with like properties, and its fill level says how many of
// them are kept ready. A node is one Terraform workspace and what it made. A
// session lends nodes of one or more pools to one tenant, until it is retired
// or expires. To contextualize a node is to put the tenant's SSH key on it. The
// generation of a node is the hash of everything that decided what it is
// (module tree, lock file, variables); a node of an older generation than its
// pool's is stale.
//
// # Invariants
//
//  1. A node is in at most one active session. A session and its nodes change
//     in one transaction, and the quota is checked inside it.
//  2. An answer leaves only after the commit that it reports.
//  3. Before Terraform may create anything, the store holds the node, and every
//     resource that can carry a tag carries the broker's id and the node's id.
//  4. No state is a dead end. A transient state means "needs work", never
//     "somebody is on it": who works on a node is known in memory only, so that
//     a restart continues every one of them.
//  5. A node's record goes only when its state holds no resource any more.
//     Destroys are retried for ever, with capped back-off.
//  6. A node can be destroyed after its pool or its module has left the
//     repository: what it was made from is kept with it.
//  7. The nodes of a pool never exceed its maximum, whatever runs at once. A
//     broken pool costs a bounded number of attempts an hour.
//  8. No lock and no transaction is held across Terraform, SSH or HTTP.
//  9. What a plan says is what the loop does: it is the same function.
//  10. Nothing is deleted because a listing came back empty, partial or with an
//     error.
//  11. A bad pools.hcl never disturbs the running one.
//  12. Secrets (keys, sensitive outputs, state) never reach a log, an event, a
//     metric or an API answer. At rest, outside the private directories of runs
//     in progress and of workspaces that a person asked for, they are not readable
//     without the broker's key.
//  13. Nothing is done to a node that is held for a person. Its newest state is
//     in one place, the store or its workspace, and never lost between them.
//  14. A host of an inventory is in at most one node: it is taken in the transaction
//     that records the node, and given back in the one that makes it gone.
package broker
