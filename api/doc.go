// Package api serves the HTTP API. It turns requests into calls of the domain
// and domain values into the wire types of package v1, and it decides nothing
// else.
//
// Version 1 answers as Duffy v3 does, down to the order of fields; where Duffy
// is wrong on purpose we are not: `detail` of an error is always a string, with
// the list of a refused body in `errors`, and every error carries a code and,
// where there is one, a hint.
//
// The order of checks is fixed: route, authentication, validation, use case. So
// a stranger learns nothing but which paths exist.
package api
