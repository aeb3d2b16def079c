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
	"syscall"
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
	zip, reused := e.compressors.Get().(*gzip.Writer) // its tables are larger than most logs
	if !reused {
		zip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // a level that there is
	}
	defer e.compressors.Put(zip)
	zip.Reset(&plain)
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
// if they are very many. Lines that are no messages are left out.
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
		if line = messageLine(line, mask); line != nil {
			if _, err := w.Write(line); err != nil {
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

// messageLine gives one of Terraform's messages as a line of a log, nil for a
// line that is none. Of a state that Terraform could store nowhere else, all of
// which may be secret, only the fact is kept.
func messageLine(line []byte, mask replacer) []byte {
	var m struct {
		Message *string         `json:"@message"`
		State   json.RawMessage `json:"state"`
	}
	if json.Unmarshal(line, &m) != nil || m.Message == nil {
		return nil
	}
	if len(m.State) > 0 {
		return logNote("Terraform could not store the state and wrote it here instead: %d bytes, left out", len(m.State))
	}
	text := mask.Replace(string(bytes.TrimSpace(line)))
	if !json.Valid([]byte(text)) { // a secret that is itself JSON
		return logNote("a message is left out: it can't be masked")
	}
	return []byte(text + "\n")
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

// outputReserve is the room that a run's output has whatever happens to the disk:
// for the messages of an ordinary run, and for the state, which Terraform writes
// there when it can store it nowhere else.
const outputReserve = 256 << 10

// newOutput makes the file that a run writes to, and locks it: see "Detached
// runs" in the package comment. It is a new file each time, so that whoever
// follows an earlier run of the node reads that one to its end.
func (r run) newOutput() (*os.File, error) {
	if err := removeIfExists(r.output()); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(r.output(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockOutput(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", r.output(), err), f.Close())
	}
	if err := reserve(f, outputReserve); err != nil { // nothing was begun: the next try may start it
		return nil, errors.Join(fmt.Errorf("set room aside in %s: %w", r.output(), err), f.Close(), removeIfExists(r.output()))
	}
	return f, nil
}

// live opens the output of a run in progress, nil if there is none.
func (r run) live() (*os.File, error) {
	f, err := os.Open(r.output())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if alive, err := isLocked(f); err != nil || !alive {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// isLocked tells whether a run still holds the lock of its output.
func isLocked(f *os.File) (bool, error) {
	err := lock(f, syscall.LOCK_SH)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock(f, syscall.LOCK_UN)
}

// WatchRun implements [broker.RunLogs].
func (e *Engine) WatchRun(ctx context.Context, n broker.Node, write func(operation string, line []byte) error) error {
	for _, operation := range []string{opApply, opImport, opDestroy} {
		r, err := e.run(n, operation)
		if err != nil {
			return err
		}
		f, err := r.live()
		if err != nil {
			return err
		}
		if f != nil {
			err := r.follow(ctx, f, func(line []byte) error { return write(operation, line) })
			return errors.Join(err, f.Close())
		}
	}
	return nil
}

// follow passes on the messages of a run, whose output is f, until it ends.
func (r run) follow(ctx context.Context, f *os.File, write func(line []byte) error) error {
	// The state comes into being with the run: its secrets are looked for again
	// with every batch of lines.
	lines := bufio.NewReader(f)
	var begun []byte
	for {
		alive, err := isLocked(f) // before reading: what it wrote last is read, too
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
			if line := messageLine(begun, mask); line != nil {
				if err := write(line); err != nil {
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
