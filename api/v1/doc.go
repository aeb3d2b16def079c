// Package v1 holds the wire types of version 1 of the API: what Duffy v3 sends
// and takes, field by field and in its order, with a few optional fields more.
//
// Server and Go client share these types. They know nothing of the domain.
package v1
