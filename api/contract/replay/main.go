// Program replay makes the requests that were recorded of CentOS Duffy to another
// server, and says of each whether the answer is the recorded one, one that a
// broker may give instead, or neither; then it exits with 1. It can also record:
// write what the server answers, in the form of the recordings.
//
// It makes and retires sessions and tenants, so it is nothing for a server that
// somebody uses. What the server needs is in api/contract/README.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/duffy-broker/duffy-broker/api/contract"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fine, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "replay:", err)
	}
	if err != nil || !fine {
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (fine bool, err error) {
	var s contract.Server
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	flags.StringVar(&s.URL, "url", "", "the server, as in http://127.0.0.1:8080")
	flags.StringVar(&s.LegacyURL, "legacy-url", "", "its legacy API, if that is elsewhere")
	keys := flags.String("keys", "", "`file` with its tenants and their keys, in the form of testdata/seed.json; none: the recorded ones")
	parts := flags.String("parts", "v1,legacy", "what to replay: v1, legacy; context_fail needs a server whose nodes refuse SSH")
	prepare := flags.Bool("prepare", false, "make the tenants that are missing, as admin")
	record := flags.String("record", "", "write what the server answers to this `file`, and judge nothing")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if s.URL == "" {
		return false, fmt.Errorf("no server: give -url http://HOST:PORT")
	}
	if s.Seed, err = seed(*keys); err != nil {
		return false, err
	}
	if *prepare {
		if err := contract.Prepare(ctx, s); err != nil {
			return false, fmt.Errorf("make the tenants: %w", err)
		}
	}
	r, err := contract.NewReplayer(ctx, s)
	if err != nil {
		return false, err
	}
	var all []contract.Exchange
	for part := range strings.SplitSeq(*parts, ",") {
		recording, err := contract.Recorded(contract.Part(part))
		if err != nil {
			return false, err
		}
		all = append(all, recording...)
	}
	if *record != "" {
		return true, write(ctx, r, all, *record)
	}
	return judge(ctx, r, all, out)
}

func judge(ctx context.Context, r *contract.Replayer, all []contract.Exchange, out io.Writer) (fine bool, err error) {
	counts := make(map[contract.Outcome]int)
	for _, e := range all {
		v := r.Do(ctx, e)
		if err := ctx.Err(); err != nil {
			return false, err
		}
		counts[v.Outcome]++
		text := fmt.Sprintf("%-9s %03d %s", v.Outcome, e.N, e.Case)
		if v.Reason != "" {
			text += ": " + v.Reason
		}
		if v.Diff != "" {
			text += "\n    " + strings.ReplaceAll(v.Diff, "\n", "\n    ")
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return false, err
		}
	}
	_, err = fmt.Fprintf(out, "%d cases: %d as recorded, %d otherwise on purpose, %d left out, %d different\n",
		len(all), counts[contract.Same], counts[contract.Allowed], counts[contract.Skipped], counts[contract.Different])
	return counts[contract.Different] == 0, err
}

func seed(path string) (contract.Seed, error) {
	if path == "" {
		return contract.RecordedSeed()
	}
	f, err := os.Open(path) //nolint:gosec // the path is the caller's own
	if err != nil {
		return contract.Seed{}, err
	}
	defer func() { _ = f.Close() }()
	return contract.ReadSeed(f)
}

func write(ctx context.Context, r *contract.Replayer, all []contract.Exchange, path string) error {
	seen, err := r.Record(ctx, all)
	if err != nil {
		return err
	}
	// It has API keys in it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the path is the caller's own
	if err != nil {
		return err
	}
	if err := contract.Write(f, seen); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
