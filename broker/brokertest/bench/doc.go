// Package bench measures what making and destroying nodes costs, and proves that
// it stays correct under load. It has tests and benchmarks only: `make
// bench-terraform` and `make bench-churn` print their tables, and small sizes of
// both run with all other tests. They run on Linux, which tells what processes
// use.
package bench
