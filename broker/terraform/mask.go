package terraform

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	masked = "**********"
	// minSecret is the shortest text that counts as a secret: masking every "a"
	// would hide the message, not the secret.
	minSecret = 4
	// minEnvironment is the same for the environment, where names only look as if
	// their values were secret.
	minEnvironment = 8
)

// secretName is how names of variables with secrets look.
var secretName = regexp.MustCompile(`(?i)secret|token|passw|credential|private|(^|_)key(_|$)`)

// maskOf gives what takes a node's secrets out of texts: sensitive outputs and
// attributes of its state, values of variables that its module declares as
// sensitive, and what looks secret in the environment.
func (e *Engine) maskOf(n broker.Node) func(states ...*state) replacer {
	var fixed []string // the same for every state, and needed only sometimes
	known := false
	return func(states ...*state) replacer {
		if !known {
			fixed, known = slices.Concat(e.sensitiveVariables(n), environmentSecrets(), credentials(n), e.identitySecrets(n)), true
		}
		texts := slices.Clone(fixed)
		for _, s := range states {
			texts = append(texts, s.sensitive()...)
		}
		return maskTexts(texts)
	}
}

// maskTexts replaces texts, also where they stand inside of JSON, and inside of
// JSON that stands in a message.
func maskTexts(texts []string) replacer {
	seen := make(map[string]bool)
	var forms []string
	add := func(text string) {
		once := quoted(text, true)
		for _, form := range []string{text, once, quoted(text, false), quoted(once, true)} {
			if !seen[form] {
				seen[form] = true
				forms = append(forms, form)
			}
		}
	}
	for _, text := range texts {
		add(text)
		if !strings.Contains(text, "\n") {
			continue
		}
		for line := range strings.Lines(text) { // keys and certificates are printed line by line
			if line = strings.TrimSpace(line); len(line) >= minEnvironment {
				add(line)
			}
		}
	}
	// The longest first, so that no part of a longer one stays.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, masked)
	}
	return strings.NewReplacer(pairs...)
}

// quoted gives what stands between the quotes of a text in JSON.
func quoted(text string, escapeHTML bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	_ = e.Encode(text) // strings always encode
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

func (e *Engine) sensitiveVariables(n broker.Node) []string {
	names := e.module(n.Source.Template).sensitive
	if len(names) == 0 {
		return nil
	}
	plain, err := e.unsealVariables(n.Source)
	if err != nil {
		return nil // no run has seen them, either
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(plain, &all) != nil {
		return nil
	}
	var texts []string
	for _, name := range names {
		texts = appendTexts(texts, decodeValue(all[name]))
	}
	return texts
}

// credentials lists the secrets of the node's own environment. Those that can't be
// resolved no run has seen.
func credentials(n broker.Node) []string {
	secrets, _ := resolve(n.RunEnvironment().Credentials)
	var texts []string
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			texts = append(texts, secret)
		}
	}
	return texts
}

func environmentSecrets() []string {
	var texts []string
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if len(value) >= minEnvironment && secretName.MatchString(name) && !filepath.IsAbs(value) {
			texts = append(texts, value)
		}
	}
	return texts
}

// sensitive lists the texts of sensitive outputs and attributes.
func (s *state) sensitive() []string {
	if s == nil {
		return nil
	}
	var texts []string
	for _, o := range s.Outputs {
		if o.Sensitive {
			texts = appendTexts(texts, decodeValue(o.Value))
		}
	}
	for _, r := range s.Resources {
		for _, i := range r.Instances {
			if len(i.SensitiveAttributes) == 0 {
				continue
			}
			attributes := decodeValue(i.Attributes)
			for _, path := range i.SensitiveAttributes {
				texts = appendTexts(texts, follow(attributes, path))
			}
		}
	}
	return texts
}

// pathStep is a step of the path of an attribute: a name, or an index.
type pathStep struct {
	Type  string          `json:"type"` // get_attr, index
	Value json.RawMessage `json:"value"`
}

// follow gives the value at a path; where it leads nowhere, what was reached: too
// much masked is better than too little.
func follow(v any, path []pathStep) any {
	for _, step := range path {
		raw := step.Value
		var typed struct { // an index says of what type it is
			Value json.RawMessage `json:"value"`
		}
		if step.Type == "index" && json.Unmarshal(raw, &typed) == nil && typed.Value != nil {
			raw = typed.Value
		}
		next, ok := member(v, raw)
		if !ok {
			// A value of any type stands with its type beside it, which paths leave out.
			if object, is := v.(map[string]any); is && len(object) == 2 && object["type"] != nil {
				next, ok = member(object["value"], raw)
			}
		}
		if !ok {
			return v
		}
		v = next
	}
	return v
}

// member gives the member of an object or an array that raw names.
func member(v any, raw json.RawMessage) (any, bool) {
	switch at := v.(type) {
	case map[string]any:
		var name string
		if json.Unmarshal(raw, &name) != nil {
			return nil, false
		}
		next, ok := at[name]
		return next, ok
	case []any:
		var i int
		if json.Unmarshal(raw, &i) != nil || i < 0 || i >= len(at) {
			return nil, false
		}
		return at[i], true
	}
	return nil, false
}

// decodeValue gives the value in raw, with numbers as they are written.
func decodeValue(raw []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// appendTexts appends the texts and numbers in v that are long enough to be
// secrets.
func appendTexts(texts []string, v any) []string {
	switch v := v.(type) {
	case json.Number:
		return appendTexts(texts, v.String())
	case string:
		if len(v) >= minSecret {
			texts = append(texts, v)
		}
	case []any:
		for _, e := range v {
			texts = appendTexts(texts, e)
		}
	case map[string]any:
		for _, e := range v {
			texts = appendTexts(texts, e)
		}
	}
	return texts
}
