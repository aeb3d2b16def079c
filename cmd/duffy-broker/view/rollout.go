package view

import (
	"cmp"
	"strconv"
	"time"
)

// rolloutsTable lists how far rollouts are, a pool a line.
func rolloutsTable(rollouts []value, now time.Time) string {
	rows := [][]string{{"POOL", "STATE", "REPLACED", "LENT", "READY", "MAKING", "FAILURES", "SINCE"}}
	for _, r := range rollouts {
		since := "-"
		if at, err := time.Parse(time.RFC3339Nano, r.get("changed_at").text); err == nil {
			since = now.Sub(at).Round(time.Second).String()
		}
		rows = append(rows, []string{
			r.get("pool").text, rolloutState(r), replaced(r), r.get("lent").text, r.get("ready").text + "/" + r.get("fill_level").text,
			r.get("making").text, r.get("failures").text, since,
		})
	}
	return columns(rows...)
}

// rolloutTable shows all that is known of one rollout.
func rolloutTable(r value) string {
	return columns(
		[]string{"pool", r.get("pool").text},
		[]string{"state", rolloutState(r)},
		[]string{"reason", cmp.Or(printable(r.get("reason").text), "-")},
		[]string{"replaced", replaced(r)},
		[]string{"stale and lent", r.get("lent").text},
		[]string{"ready", r.get("ready").text + " of " + r.get("fill_level").text + ", " + r.get("ready_new").text + " of them new"},
		[]string{"being made", r.get("making").text},
		[]string{"failures", r.get("failures").text},
		[]string{"last failure", cmp.Or(printable(r.get("failure").text), "-")},
		[]string{"began", cmp.Or(r.get("started_at").text, "-")},
	)
}

func rolloutState(r value) string {
	state := r.get("state").text
	if r.get("now").yes && state == "running" {
		state += " (now)"
	}
	return state
}

// replaced says how many of the stale nodes have gone: those that a session took
// away are none of a rollout's business any more.
func replaced(r value) string {
	stale, _ := strconv.Atoi(r.get("stale").text)
	left, _ := strconv.Atoi(r.get("left").text)
	if stale == 0 && left == 0 {
		return "-"
	}
	stale = max(stale, left)
	return strconv.Itoa(stale-left) + "/" + strconv.Itoa(stale)
}

func flatRollout(r value) string {
	var pairs []any
	for _, name := range []string{"pool", "generation", "state", "now", "reason", "stale", "left", "lent", "fill_level", "ready", "ready_new", "making", "failures", "failure", "started_at", "changed_at"} {
		pairs = append(pairs, name, r.get(name))
	}
	return assignments(pairs...)
}
