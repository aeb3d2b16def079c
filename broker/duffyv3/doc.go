// Package duffyv3 reads what a CentOS Duffy v3 knows: its tenants, and how much
// it still has out. It reads from Duffy's PostgreSQL database, or from a dump of
// it in SQL, and changes nothing there.
//
// # Its schema
//
// Three tables matter: tenants, sessions and nodes. A row without retired_at is
// active. Times are timestamps without a zone, in UTC; lifetimes are intervals;
// api_key is a bcrypt hash. The columns session_lifetime and session_lifetime_max
// came later (2022), so a column that is not there counts as null, but for those
// without which there is no tenant.
//
// Both ways give values in the text form of PostgreSQL's COPY, so that there is
// one reading of them.
package duffyv3
