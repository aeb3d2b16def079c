package terraform

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	logPurpose = "run-log"
	// logHead and logTail are how much of a run's output is kept: how it began,
	// and how it ended. Ordinary runs write a few KiB.
	logHead = 256 << 10
	logTail = 768 << 10
	// followPause is how often the output of a run in progress is looked at.
	followPause = 100 * time.Millisecond
)

// record gives the record of an ended run, with its log sealed. What went wrong
// with the log itself stands in it: a run's result counts for more.
func (e *Engine) record(r run, failure error) broker.Run {
	result := broker.Run{Operation: r.operation, Class: broker.FailureClassOf(failure)}
	if failure != nil {
		result.Failure = failure.Error()
	}
	if info, err := os.Stat(r.variables()); err == nil {
		result.Began = info.ModTime()
	}
	if info, err := os.Stat(r.output()); err == nil {
		result.Ended = info.ModTime()
	}
	// What a destroy has removed was secret, too.
	before, _ := readState(r.before())
	after, _ := newestState(r.dir)
	mask := r.mask(before, after)
	var plain bytes.Buffer
	zip := gzip.NewWriter(&plain)
	note := func(format string, args ...any) {
		_, _ = zip.Write(logNote(format, args...)) // to memory
	}
	if err := copyLog(zip, r.output(), mask); err != nil {
		note("the output can't be read: %v", err)
	}
	if text := r.stderrText(); text != "" {
		note("standard error: %s", mask.Replace(text))
	}
	_ = zip.Close() // to memory
	result.Log = e.Keyring.Seal(logPurpose, r.node.UID, plain.Bytes())
	return result
}

// logNote is a line of ours in a log, in the form of Terraform's.
func logNote(format string, args ...any) []byte {
	line, err := json.Marshal(map[string]string{"@level": "warn", "@module": "duffy-broker", "@message": fmt.Sprintf(format, args...), "type": "log"})
	if err != nil {
		panic(err) // strings always encode
	}
	return append(line, '\n')
}

// replacer takes secrets out of a text.
type replacer interface{ Replace(text string) string }

// copyLog copies Terraform's messages, masked: the first ones and the last ones
// if they are very many. Lines that are no messages are left out: a state that
// could not be stored is among them.
func copyLog(w io.Writer, path string, mask replacer) error {
	f, err := os.Open(path) //nolint:gosec // a file of ours
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	left := int64(logHead)
	if info.Size() <= logHead+logTail {
		left = info.Size()
	}
	lines := bufio.NewReader(f)
	if err := copyLines(w, lines, left, mask); err != nil || left == info.Size() {
		return err
	}
	if _, err := f.Seek(-logTail, io.SeekEnd); err != nil {
		return err
	}
	lines.Reset(f)
	if _, err := lines.ReadBytes('\n'); err != nil { // the rest of a line
		return err
	}
	if _, err := w.Write(logNote("about %d bytes are left out here", info.Size()-logHead-logTail)); err != nil {
		return err
	}
	return copyLines(w, lines, logTail, mask)
}

// copyLines copies the messages among the lines that begin within the next left
// bytes.
func copyLines(w io.Writer, lines *bufio.Reader, left int64, mask replacer) error {
	for left > 0 {
		line, err := lines.ReadBytes('\n')
		left -= int64(len(line))
		if isMessage(line) {
			if _, err := io.WriteString(w, mask.Replace(string(bytes.TrimSpace(line)))+"\n"); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isMessage tells whether a line is one of Terraform's messages.
func isMessage(line []byte) bool {
	var m struct {
		Message *string `json:"@message"`
	}
	return json.Unmarshal(line, &m) == nil && m.Message != nil
}

// OpenLog implements [broker.RunLogs].
func (e *Engine) OpenLog(r broker.Run, sealed []byte) ([]byte, error) {
	plain, err := e.Keyring.Open(logPurpose, r.NodeUID, sealed)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewReader(bytes.NewReader(plain))
	if err != nil {
		return nil, fmt.Errorf("log of run %d: %w", r.ID, err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		return nil, fmt.Errorf("log of run %d: %w", r.ID, err)
	}
	return text, nil
}

// WatchRun implements [broker.RunLogs].
func (e *Engine) WatchRun(ctx context.Context, n broker.Node, write func(operation string, line []byte) error) error {
	for _, operation := range []string{opApply, opDestroy} {
		r, err := e.run(n, operation)
		if err != nil {
			return err
		}
		alive, err := r.alive()
		if err != nil {
			return err
		}
		if alive {
			return r.follow(ctx, func(line []byte) error { return write(operation, line) })
		}
	}
	return nil
}

// follow passes on the messages of a run until it ends.
func (r run) follow(ctx context.Context, write func(line []byte) error) error {
	f, err := os.Open(r.output())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	// The state comes into being with the run: its secrets are looked for again
	// with every batch of lines.
	lines := bufio.NewReader(f)
	var begun []byte
	for {
		alive, err := r.alive() // before reading: what it wrote last is read, too
		if err != nil {
			return err
		}
		s, _ := newestState(r.dir) // one that is being written has to wait
		mask := r.mask(s)
		for {
			part, err := lines.ReadBytes('\n')
			begun = append(begun, part...)
			if err != nil {
				if errors.Is(err, io.EOF) {
					break
				}
				return err
			}
			if isMessage(begun) {
				if err := write([]byte(mask.Replace(string(begun)))); err != nil {
					return err
				}
			}
			begun = begun[:0]
		}
		if !alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followPause):
		}
	}
}
