package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// rollingOut is how two rollouts go, one of which pauses; a third pool has none.
func rollingOut(start time.Time) [][]v1.Rollout {
	at := v1.Time{Time: start}
	idle := v1.Rollout{Pool: "idle", State: "none", FillLevel: 1, Ready: 1}
	return [][]v1.Rollout{
		{{Pool: "a", State: "running", Stale: 4, Left: 4, FillLevel: 4, Ready: 4, Making: 1, StartedAt: at}, idle, {Pool: "long-name", State: "running", Stale: 2, Left: 2, FillLevel: 2, Ready: 2, StartedAt: at}},
		{{Pool: "a", State: "running", Stale: 4, Left: 3, FillLevel: 4, Ready: 5, Making: 1, StartedAt: at}, idle, {Pool: "long-name", State: "running", Stale: 2, Left: 2, FillLevel: 2, Ready: 2, Failures: 1, StartedAt: at}},
		{{Pool: "a", State: "done", Stale: 4, Left: 0, FillLevel: 4, Ready: 4, StartedAt: at}, idle, {Pool: "long-name", State: "paused", Stale: 2, Left: 2, FillLevel: 2, Ready: 2, Failures: 2, StartedAt: at}},
	}
}

// screen plays what is written to a terminal, and gives its lines at the end.
func screen(t *testing.T, text string) []string {
	t.Helper()
	lines, at := []string{""}, 0
	for len(text) > 0 {
		if rest, found := strings.CutPrefix(text, "\x1b["); found {
			end := strings.IndexAny(rest, "AJK")
			if end < 0 {
				t.Fatalf("an unknown sequence: %q", text)
			}
			switch rest[end] {
			case 'A':
				n := 0
				for _, digit := range rest[:end] {
					n = 10*n + int(digit-'0')
				}
				if at -= n; at < 0 {
					t.Fatalf("it goes %d lines above the first", -at)
				}
			case 'J':
				lines = append(lines[:at:at], "")
			case 'K':
				lines[at] = ""
			}
			text = rest[end+1:]
			continue
		}
		switch text[0] {
		case '\n':
			if at++; at == len(lines) {
				lines = append(lines, "")
			}
		case '\r':
		default:
			lines[at] += text[:1]
		}
		text = text[1:]
	}
	return lines
}

// On a terminal each pool has a line, which is redrawn; it never wraps.
func TestProgressOnATerminal(t *testing.T) {
	terminal, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	for _, test := range []struct {
		name          string
		width, height uint16
		want          []string
	}{
		{"wide", 120, 24, []string{
			"a          [####################] 4/4 replaced, 4/4 ready, done",
			"long-name  [....................] 0/2 replaced, 2/2 ready, 2 failed, PAUSED", "",
		}},
		{"narrow", 40, 24, []string{"a          [####################] 4/4 r", "long-name  [....................] 0/2 r", ""}},
		{"low", 100, 3, []string{"long-name  [....................] 0/2 replaced, 2/2 ready, 2 failed, PAUSED", "and 1 more", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := pty.Setsize(terminal, &pty.Winsize{Cols: test.width, Rows: test.height}); err != nil {
				t.Fatal(err)
			}
			t.Setenv("TERM", "xterm")
			start := time.Now()
			p := newProgress(tty)
			if p.size == nil {
				t.Fatal("the terminal is none")
			}
			for i, list := range rollingOut(start) {
				if err := p.show(list, start.Add(time.Duration(i)*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.WriteString(tty, "END"); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for buffer := make([]byte, 4096); !bytes.HasSuffix(got, []byte("END")); {
				n, err := terminal.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, buffer[:n]...)
			}
			text := strings.TrimSuffix(string(got), "END")
			if diff := cmp.Diff(test.want, screen(t, text)); diff != "" {
				t.Errorf("the screen at the end (-want +got):\n%s\n%q", diff, text)
			}
			if want := "about 3m left"; test.name == "wide" && !strings.Contains(text, want) {
				t.Errorf("%q lacks %q", text, want)
			}
		})
	}
	if err := tty.Close(); err != nil {
		t.Error(err)
	}
}

// Elsewhere there is one plain line for each change.
func TestProgressInALog(t *testing.T) {
	var out bytes.Buffer
	p, start := newProgress(&out), time.Now()
	for i, list := range rollingOut(start) {
		for range 2 { // the same again is no change
			if err := p.show(list, start.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := `pool a: 0 of 4 stale nodes replaced, 4 of 4 ready, 1 being made
pool long-name: 0 of 2 stale nodes replaced, 2 of 2 ready, 0 being made
pool a: 1 of 4 stale nodes replaced, 5 of 4 ready, 1 being made
pool long-name: 0 of 2 stale nodes replaced, 2 of 2 ready, 0 being made, 1 failed
pool a: 4 of 4 stale nodes replaced, 4 of 4 ready, 0 being made
pool long-name: 0 of 2 stale nodes replaced, 2 of 2 ready, 0 being made, 2 failed: paused
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
