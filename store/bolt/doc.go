// Package bolt keeps a broker's data in one bbolt file: one process, no service.
//
// # Layout
//
// One bucket a kind, records as JSON under their id (8 bytes, big-endian, so
// that the order of keys is the order of ids). Ids come from the buckets'
// sequences and never come again. Indexes are keys without values:
//
//	meta               "schema" -> number; "identity" -> Identity
//	nodes              id -> Node
//	nodes_by_state     state, pool, id
//	nodes_by_uid       uid -> id
//	terraform          uid -> sealed Terraform state
//	sessions           id -> Session
//	sessions_by_state  state, tenant, id
//	tenants            id -> Tenant
//	tenants_by_name    name -> id
//	pool_health        pool -> PoolHealth
//	rollouts           pool -> Rollout
//	followed           pool -> Followed
//	events             seq -> Event
//	events_by_time     time, seq
//	events_by_session  session, seq
//	runs               id -> Run
//	runs_by_node       node id, id
//	run_logs           id -> log of the run
//	idempotency        tenant, key -> Idempotency
//	idempotency_by_time  time, tenant, key
//	handouts           tenant, pool -> Handouts
//	hosts              id -> Host; ids are of the sequence of nodes
//	hosts_by_state     state, inventory, id
//	host_claims        claim -> id
//
// Buckets that came later are made when a file without them is opened.
//
// Strings inside a key are preceded by their length, so that no prefix of one
// query can match the keys of another. A hand-out reads the keys of one state
// and pool up to its limit and then only the nodes that it takes; counting reads
// keys only; pruning reads the keys of what it removes.
//
// # Writing
//
// bbolt has one writer and syncs the file at every commit. Calls of
// [Store.Update] that arrive while a commit is under way share the next one: see
// writer.go. A call that comes alone waits for nobody.
//
// # Reading
//
// What the last commits have touched is remembered in memory (see changes.go), so
// that whoever keeps a copy of nodes and sessions reads only those.
//
// A read transaction keeps every page alive that has been replaced since it
// began, and a writer that must enlarge the mapping waits for all of them. So
// functions given to [Store.View] copy what they need and return; no export or
// backup runs inside one View.
//
// # Damage
//
// bbolt trusts its pages and panics, or faults on the mapped file, when they are
// damaged. Both become errors here, for opening, reading and writing. A panic
// of the caller's own function stays a panic. After damage was met while writing,
// the store refuses to write until it is opened again.
package bolt
