// Package provider lets Terraform runs share long-lived provider processes.
//
// A host ([Serve]) is a detached process with a directory of its own. It starts
// every provider of the initialised module that this directory links to, once,
// and then attaches runs: for each it listens on sockets that are the run's own,
// and relays what Terraform says there to the providers. Terraform finds the
// sockets in TF_REATTACH_PROVIDERS ([Attach]).
//
// All runs of a host have the same provider configuration; who calls [Start] and
// [Attach] sees to it, and the host checks it.
//
// # What is not relayed
//
// A relay is needed because a provider process knows one Terraform only:
//
//   - A stop asks the whole process to cancel what it does. It is answered here, so
//     that a cancelled run never reaches its neighbours; its own calls come to
//     their ends.
//   - A configuration applies to the whole process, and the last one wins. The
//     first is passed on and its answer given to everybody who sends the same; a
//     different one is refused, and the host takes no more runs.
//   - Schemas don't change: they are asked for once.
//   - Shutting down is the host's.
//
// # What is kept
//
// A change that was passed on is never cancelled, whatever becomes of Terraform:
// the answer to a create is the only place where the id of the new object
// stands. It is written to the run's journal before Terraform gets it, and
// [ReadJournal] finds it there. The host holds a lock (flock) on the journal as
// long as it may still write to it.
//
// A run has ended when nobody holds the lock on its output file; from then on no
// change of it is begun.
//
// # Life of a host
//
// A host takes no more runs after a number of them or after a time, since
// providers leak memory, and when one of its providers has died; it ends when its
// last run has. One that has nothing to do for some minutes ends too, so that
// nobody need remember it. It needs no broker: the next one finds it by its
// directory. Nobody else holds the lock on its log.
package provider
