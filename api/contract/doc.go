// Package contract holds what CentOS Duffy answered to recorded requests, and
// replays them against any server that claims to answer the same: a broker in a
// test, a running one, or a Duffy.
//
// The recordings are as they were made. Where a broker answers otherwise on
// purpose, [Differences] says how and why; [LeftOut] says what a replay can't do.
// Compared are status, headers and values. Ids are mapped, since every server
// has its own; host names and addresses as well. Of times the form counts, and
// of a session's end the distance from its beginning. Fields that Duffy does not
// have are allowed everywhere but in pools.
package contract
