// Package localnode makes nodes without a hypervisor: a node is one SSH server
// with a loopback address, a home directory, a host key and an authorized_keys
// file of its own, that runs the caller's shell as the caller.
//
// It stands behind the module modules/local, whose provisioners call the hidden
// commands `duffy-broker local-node start|stop`. [Start] leaves a detached
// process behind, `duffy-broker local-node serve`, which runs [Serve] and is the
// node; it outlives Terraform and the broker. [Stop] ends it. A node is no
// sandbox: who may log in can do whatever the caller can.
//
// # What makes a node
//
// Everything of a node lies in its directory, mode 0700:
//
//	lock             held (flock) by the server while it lives
//	options.json     what Start was asked for
//	address, port    where it listens
//	host_key[.pub]   ed25519; the .pub is "type base64"
//	user             the only user who may log in
//	pid              the server's process
//	log              its output, and sshd's
//	login            the script that every login runs
//	sshd_config      with OpenSSH only
//	home             HOME of every login; home/.ssh/authorized_keys decides who may
//
// # Two servers
//
// Where OpenSSH is installed and can serve the caller, each connection is handed
// to an `sshd -i` of its own, as systemd does with socket activation. So the
// address is bound once, by us, and stays ours: there is no moment in which two
// nodes that start at once could both take an address for free. Elsewhere the
// built-in server on golang.org/x/crypto/ssh takes over. It has shell, exec,
// pty, window-change, env (LANG and LC_*), signal and exit-status. It has
// neither sftp (and so no modern scp), nor forwarding, nor agents, and it refuses
// keys that carry options in authorized_keys, since it could not honour them.
//
// Both run the same login script, so both give a login the same environment,
// made from nothing: no variable of the caller (cloud credentials, say) gets
// through, but for PATH, SHELL, LANG and TZ.
//
// # Nothing stays behind
//
// On Linux the server is the reaper of all its descendants, so that a tenant's
// daemons stay below it however often they fork; it kills all of them when it
// ends. It ends on SIGTERM, when its directory is removed, after
// Options.DiesAfter, and when the Start that made it dies before saying that all
// is well. Should the server itself be killed, [Stop] finds what is left by
// DUFFY_NODE_DIR in the environment of the processes. On other systems only
// processes that stay in the process group of their login are found.
package localnode
