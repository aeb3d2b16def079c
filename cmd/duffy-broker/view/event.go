package view

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Event writes one event of a stream in one of the formats: a line, or with yaml
// a document.
func Event(w io.Writer, format string, raw json.RawMessage) error {
	if err := Check(format); err != nil {
		return err
	}
	v, err := parse(raw)
	if err != nil {
		return broker.Wrap(broker.CodeInvalid, err, "the event is not JSON")
	}
	var text string
	switch format {
	case JSON:
		text = pythonJSON(v)
	case YAML:
		text = "---\n" + strings.TrimSuffix(pythonYAML(v), "\n")
	case Flat:
		text = flatEvent(v)
	case Table:
		text = eventLine(v)
	}
	_, err = io.WriteString(w, text+"\n")
	return err
}

// eventsTable lists events, a line each.
func eventsTable(events []value) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString(eventLine(e) + "\n")
	}
	return b.String()
}

// eventLine says what happened. It has no columns: the next event is not known yet.
func eventLine(e value) string {
	words := []string{e.get("seq").text, e.get("at").text, e.get("kind").text}
	if id := e.get(e.get("kind").text + "_id").text; id != "" {
		words = append(words, id)
	}
	if pool := e.get("pool").text; pool != "" {
		words = append(words, "of "+pool)
	}
	if e.get("kind").text == "node" && e.has("session_id") {
		words = append(words, "in session "+e.get("session_id").text)
	}
	from, to := e.get("from").text, e.get("to").text
	switch {
	case from != "" && to != "" && from != to:
		words = append(words, fmt.Sprintf("%s -> %s", from, to))
	case to != "":
		words = append(words, to)
	}
	text := strings.Join(words, " ")
	if message := e.get("message").text; message != "" {
		text += ": " + message
	}
	return printable(text)
}

func flatEvent(e value) string {
	pairs := []any{"seq", e.get("seq")}
	for _, name := range []string{"at", "kind", "pool", "node_id", "session_id", "tenant_id", "from", "to", "message"} {
		pairs = append(pairs, name, e.get(name))
	}
	return assignments(pairs...)
}
