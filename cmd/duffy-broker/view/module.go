package view

import (
	"fmt"
	"strings"
)

// modulesTable lists modules that are shipped.
func modulesTable(list []value) string {
	rows := [][]string{{"NAME", "DESCRIPTION"}}
	for _, m := range list {
		rows = append(rows, []string{m.get("name").text, m.get("description").text})
	}
	return columns(rows...)
}

func flatModule(m value) string {
	return assignments("module", m.get("name"), "source", m.get("source"), "description", m.get("description"))
}

// moduleTable shows what a module takes and gives. Descriptions have lines of their
// own: they are sentences.
func moduleTable(m value) string {
	var b strings.Builder
	fmt.Fprintf(&b, "module = %q\n", m.get("source").text)
	if text := m.get("description").text; text != "" {
		b.WriteString(printable(text) + "\n")
	}
	section := func(title string, items []value, line func(value) string) {
		if len(items) == 0 {
			return
		}
		b.WriteString("\n" + title + "\n")
		for _, item := range items {
			b.WriteString("  " + printable(line(item)) + "\n")
			if text := item.get("description").text; text != "" {
				b.WriteString("      " + printable(text) + "\n")
			}
		}
	}
	section("VARIABLES", m.get("variables").items, func(v value) string {
		line := v.get("name").text + "  " + v.get("type").text
		switch {
		case v.get("required").yes:
			line += ", required"
		case v.get("sensitive").yes:
			line += ", has a default"
		case v.has("default"):
			line += ", default " + compactJSON(v.get("default"))
		}
		if v.get("sensitive").yes {
			line += ", sensitive"
		}
		return line
	})
	section("OUTPUTS", m.get("outputs").items, func(v value) string { return v.get("name").text })
	section("PROVIDERS", m.get("providers").items, func(v value) string {
		return strings.TrimSpace(v.get("source").text + "  " + v.get("version").text)
	})
	b.WriteString("\n")
	if text := m.get("required_version").text; text != "" {
		fmt.Fprintf(&b, "terraform  %s\n", printable(text))
	}
	var classes []string
	for _, class := range m.get("errors").items {
		classes = append(classes, class.text)
	}
	if len(classes) == 0 {
		classes = []string{"none of its own"}
	}
	fmt.Fprintf(&b, "errors     %s\n", printable(strings.Join(classes, ", ")))
	sweep := "no: the leak sweep can't list its nodes"
	if m.get("sweep").yes {
		sweep = "yes: the leak sweep can list its nodes"
	}
	fmt.Fprintf(&b, "sweep      %s\n", sweep)
	return b.String()
}

func flatModuleParts(m value) []string {
	lines := []string{assignments("module", m.get("name"), "source", m.get("source"), "required_version", m.get("required_version"), "sweep", m.get("sweep"))}
	for _, v := range m.get("variables").items {
		fallback := value{}
		if v.has("default") {
			fallback = value{kind: isString, text: compactJSON(v.get("default"))}
		}
		lines = append(lines, assignments("variable", v.get("name"), "type", v.get("type"), "required", v.get("required"), "default", fallback, "description", v.get("description")))
	}
	for _, o := range m.get("outputs").items {
		lines = append(lines, assignments("output", o.get("name"), "description", o.get("description")))
	}
	for _, p := range m.get("providers").items {
		lines = append(lines, assignments("provider", p.get("source"), "version", p.get("version")))
	}
	for _, class := range m.get("errors").items {
		lines = append(lines, assignments("error_class", class))
	}
	return lines
}

// compactJSON writes a default in one line.
func compactJSON(v value) string { return pythonJSON(v) }

// locksTable says what became of lock files.
func locksTable(list []value) string {
	rows := [][]string{{"LOCK FILE", "CHANGE", "PROVIDERS", "PLATFORMS"}}
	for _, l := range list {
		var providers, platforms []string
		for _, p := range l.get("providers").items {
			providers = append(providers, p.get("address").text)
		}
		for _, p := range l.get("platforms").items {
			platforms = append(platforms, p.text)
		}
		change := l.get("change").text
		if change == "none" {
			change = "none needed"
		}
		rows = append(rows, []string{l.get("path").text, change, strings.Join(providers, ", "), strings.Join(platforms, ", ")})
	}
	return columns(rows...)
}

func flatLock(l value) []string {
	lines := []string{assignments("lock_file", l.get("path"), "change", l.get("change"))}
	for _, p := range l.get("providers").items {
		lines = append(lines, assignments("lock_file", l.get("path"), "provider", p.get("address"), "checksums", p.get("checksums")))
	}
	return lines
}
