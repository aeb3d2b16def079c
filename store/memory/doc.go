// Package memory keeps a broker's data in maps: for tests, and for brokers that
// may forget everything. It promises what [broker.Store] promises, except that
// nothing survives the process.
//
// Values are copied by way of JSON, as the stores on disk do it, so a field that
// would not survive there does not survive here either.
package memory
