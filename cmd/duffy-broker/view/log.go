package view

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// LogLine writes one line of a node's log, Terraform's message or one of ours, in
// one of the formats: a line for people, or with yaml a document. A line that is
// no JSON is written as it is.
func LogLine(w io.Writer, format string, line []byte) error {
	if err := Check(format); err != nil {
		return err
	}
	v, err := parse(line)
	if err != nil || v.kind != isObject {
		_, err := w.Write(line)
		return err
	}
	var text string
	switch format {
	case JSON:
		text = pythonJSON(v)
	case YAML:
		text = "---\n" + strings.TrimSuffix(pythonYAML(v), "\n")
	case Flat:
		text = assignments(
			"timestamp", v.get("@timestamp"), "level", v.get("@level"), "type", v.get("type"), "run", v.get("run"),
			"message", v.get("@message"), "detail", v.get("diagnostic").get("detail"), "failure", v.get("failure"),
		)
	case Table:
		if text, err = logText(line); err != nil {
			return broker.Wrap(broker.CodeInvalid, err, "the line of the log can't be understood")
		}
	}
	_, err = io.WriteString(w, text+"\n")
	return err
}

// logLine is what people want of a message of Terraform, or of a line of ours.
type logLine struct {
	Message    string    `json:"@message"`
	Timestamp  time.Time `json:"@timestamp"`
	Type       string    `json:"type"`
	Run        int64     `json:"run"`
	Failure    string    `json:"failure"`
	Diagnostic struct {
		Detail string `json:"detail"`
	} `json:"diagnostic"`
}

func logText(line []byte) (string, error) {
	var l logLine
	if err := json.Unmarshal(line, &l); err != nil {
		return "", err
	}
	at := "        "
	if !l.Timestamp.IsZero() {
		at = l.Timestamp.Local().Format(time.TimeOnly)
	}
	var text string
	switch l.Type {
	case "run_start":
		text = "== " + l.Message
		if l.Run != 0 {
			text += fmt.Sprintf(" (run %d)", l.Run)
		}
	case "run_end":
		text = "== " + l.Message
		if l.Failure != "" {
			text += "\n" + l.Failure
		}
	default:
		text = l.Message
		if detail := strings.TrimSpace(l.Diagnostic.Detail); detail != "" {
			text += "\n" + detail
		}
	}
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", len(at)+1))
	return at + " " + clean(text), nil
}

// clean drops what could move the cursor of a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}
