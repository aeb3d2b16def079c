package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// The exit codes of our own. Those of remote commands are passed on.
const (
	exitDone   = 0
	exitFailed = 1
	// exitChanges is what terraform plan -detailed-exitcode gives.
	exitChanges = 2
	// exitFound is what terraform fmt -check gives.
	exitFound = 3
	// exitTimeout is what timeout(1) gives.
	exitTimeout = 124
	// exitInterrupted is what shells give for a command that SIGINT ended.
	exitInterrupted = 130
)

// exitCodes says what each exit code means; help and docs/cli.md print it.
func exitCodes() []struct {
	code    int
	meaning string
} {
	return []struct {
		code    int
		meaning string
	}{
		{exitDone, "it was done"},
		{exitFailed, "it was not: a wrong command line, no answer, or a refusal. Standard error says which, and what to do"},
		{exitChanges, "plan: there are changes"},
		{exitFound, "plan: there are changes that a policy denies or that destroy stock; fmt --check: a file is not formatted"},
		{exitTimeout, "client run: the time of --timeout was over"},
		{exitInterrupted, "client run, client request-session, modules test: interrupted by Ctrl-C, SIGTERM or SIGHUP"},
	}
}

// otherExitCodes is about all that exitCodes has not.
const otherExitCodes = "client run, client ssh: that of the command on the node; 255 is ssh's own, when it can't connect"

// newExitCodesTopic is a page of help.
func newExitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Exit codes:\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range exitCodes() {
		_, _ = fmt.Fprintf(w, "  %d\t%s\n", c.code, c.meaning)
	}
	_, _ = fmt.Fprintf(w, "  other\t%s\n", otherExitCodes)
	_ = w.Flush() // a strings.Builder takes everything
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimSuffix(b.String(), "\n")}
}
