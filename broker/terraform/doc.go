// Package terraform makes and destroys nodes with Terraform or OpenTofu: it
// implements [broker.Provisioner].
//
// # Directories
//
// Everything is below one data directory, readable by its owner alone:
//
//	templates/HASH/     a module tree, copied and initialised once, named by its content
//	runs/UID/           the working directory of a node's runs, while they are in progress
//	runs/UID/.duffy/    variables, output and marks of these runs
//	workspaces/UID/     for a person who works on a held node
//	nodes/UID/          for the module: what it keeps on this host for the node
//
// A run's directory has symbolic links to every entry of its template, and its
// own state file. So initialising costs nothing per node, a node can be destroyed
// after its module has gone, and no two runs share a file that they write to.
//
// # Detached runs
//
// Apply and destroy are exec'd in a session of their own with output to files, so
// that they finish when the broker is killed. Terraform is never interrupted to
// save time: a killed create leaves behind what no state knows.
//
// Before it forks, the broker takes a lock (flock) on the run's output file, and
// hands the file over as standard output. The lock belongs to the open file, so
// it is held until both have gone, Terraform and the broker that started it, and
// no process that Terraform starts inherits it. Whether a run is alive is thus a
// question without races, pid files or pids. Only to signal a run, beyond its
// timeout, its process is looked for, by the run directory on its command line.
//
// # What counts as success
//
// A run's result is read from its directory by one function, whoever started it:
// the summary and the errors in Terraform's JSON output, and the state file. Exit
// code 0 is not enough: Terraform takes an empty state file for "nothing to
// destroy".
//
// # State at rest
//
// [Engine.Apply] and [Engine.Destroy] give the state sealed with the broker's key;
// once it is committed, [Engine.Discard] removes the directory that held it in
// clear.
package terraform
