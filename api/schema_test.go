package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// testDocument is the document as a client reads it.
var testDocument = sync.OnceValues(func() (object, error) {
	text, err := encode(document("1.2.3", false))
	if err != nil {
		return nil, err
	}
	var d object
	return d, json.Unmarshal(text, &d)
})

func readDocument(t testing.TB) object {
	t.Helper()
	d, err := testDocument()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// mismatches says where a value is not as a schema of the document wants it. It
// knows of JSON Schema what the document has. Stricter than that, it refuses
// members that the schema does not name.
func mismatches(document, schema object, v any, at string) []string {
	if ref, ok := schema["$ref"].(string); ok {
		named, ok := lookup(document, ref).(object)
		if !ok {
			return []string{at + ": there is no schema " + ref}
		}
		return mismatches(document, named, v, at)
	}
	if choices, ok := schema["anyOf"].([]any); ok {
		var all []string
		for _, choice := range choices {
			wrong := mismatches(document, choice.(object), v, at)
			if wrong == nil {
				return nil
			}
			all = append(all, wrong...)
		}
		return all
	}
	if want, ok := schema["type"]; ok && !isOfType(want, v) {
		return []string{fmt.Sprintf("%s is %v, not of type %v", at, v, want)}
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, v) {
		return []string{fmt.Sprintf("%s is %v, not one of %v", at, v, values)}
	}
	switch v := v.(type) {
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); schema["format"] == "date-time" && err != nil {
			return []string{at + ": " + err.Error()}
		}
	case []any:
		items, _ := schema["items"].(object)
		var wrong []string
		for i, item := range v {
			wrong = append(wrong, mismatches(document, items, item, fmt.Sprintf("%s[%d]", at, i))...)
		}
		return wrong
	case object:
		return memberMismatches(document, schema, v, at)
	}
	return nil
}

func memberMismatches(document, schema, v object, at string) (wrong []string) {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s has no %s", at, name))
		}
	}
	properties, closed := schema["properties"].(object)
	others, _ := schema["additionalProperties"].(object)
	for name, member := range v {
		property, ok := properties[name].(object)
		switch {
		case !ok && closed:
			wrong = append(wrong, fmt.Sprintf("%s.%s is not in the document", at, name))
		case !ok:
			property = others
		}
		wrong = append(wrong, mismatches(document, property, member, at+"."+name)...)
	}
	return wrong
}

// isOfType tells whether a decoded value is of a type, or of one of a list.
func isOfType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return isOfType(one, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case json.Number:
		_, err := strconv.ParseInt(v.String(), 10, 64)
		return want == "number" || want == "integer" && err == nil
	case []any:
		return want == "array"
	case object:
		return want == "object"
	}
	return false
}

// lookup follows a reference within the document.
func lookup(document object, ref string) any {
	var at any = document
	for step := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		o, _ := at.(object)
		at = o[step]
	}
	return at
}

// checkAnswer fails the test if an answer is not as the document says.
func checkAnswer(t testing.TB, method, path string, a answerSeen) {
	t.Helper()
	for _, wrong := range answerMismatches(readDocument(t), method, path, a) {
		t.Errorf("%s %s answered %d, and not as the document says: %s", method, path, a.status, wrong)
	}
}

func answerMismatches(document object, method, path string, a answerSeen) []string {
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if method == http.MethodHead || a.status == http.StatusTemporaryRedirect {
		return nil
	}
	content := object{jsonType: object{"schema": object{"$ref": "#/components/schemas/Error"}}} // where there is no route
	if operation := findOperation(document, method, path); operation != nil {
		responses := operation["responses"].(object)
		response, ok := responses[strconv.Itoa(a.status)].(object)
		if !ok && a.status < 300 {
			return []string{"it has no such success"}
		}
		if !ok {
			response = responses["default"].(object)
		}
		content, _ = response["content"].(object)
	}
	media, ok := content[mediaType].(object)
	if !ok {
		media, ok = content["*/*"].(object)
	}
	if !ok {
		if mediaType == "" && a.body == "" && content == nil {
			return nil
		}
		return []string{fmt.Sprintf("content type %q with body %q", mediaType, a.body)}
	}
	if mediaType != jsonType {
		return nil
	}
	var v any
	decoder := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		return []string{err.Error()}
	}
	return mismatches(document, media["schema"].(object), v, "body")
}

// findOperation gives what the document has for a request, or nil.
func findOperation(document object, method, path string) object {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	var found object
	fewest := len(parts)
	for pattern, item := range document["paths"].(object) {
		pattern = strings.NewReplacer("{", ":", "}", "").Replace(pattern)
		operation, _ := item.(object)[strings.ToLower(method)].(object)
		if n := strings.Count(pattern, ":"); operation != nil && n < fewest && matches(strings.Split(pattern, "/"), parts) {
			found, fewest = operation, n // the one that names most counts
		}
	}
	return found
}

// TestMismatches: the check that all other tests rely on finds what is wrong.
func TestMismatches(t *testing.T) {
	const good = `{"action": "get", "events": [{"seq": 1, "at": "2026-11-23T17:32:29.383593+00:00", "kind": "node"}]}`
	asJSON := http.Header{"Content-Type": {"application/json"}}
	tests := map[string]struct {
		old, new string
		status   int
		want     string
	}{
		"good":            {"", "", 200, ""},
		"other success":   {"", "", 201, "no such success"},
		"unknown member":  {`"seq"`, `"more": 1, "seq"`, 200, "body.events[0].more is not in the document"},
		"member missing":  {`"seq": 1, `, "", 200, "body.events[0] has no seq"},
		"text for number": {`"seq": 1`, `"seq": "1"`, 200, "body.events[0].seq is 1, not of type integer"},
		"fraction":        {`"seq": 1`, `"seq": 1.5`, 200, "not of type integer"},
		"no time":         {"2026-", "26-", 200, "body.events[0].at: parsing time"},
		"not in the enum": {`"get"`, `"got"`, 200, "body.action is got, not one of"},
		"null for a list": {good, `{"action": "get", "events": null}`, 200, "body.events is <nil>, not of type array"},
		"no error":        {"", "", 403, "body has no detail"},
		"not JSON":        {good, "{", 200, "EOF"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := answerSeen{test.status, asJSON, strings.Replace(good, test.old, test.new, 1)}
			got := strings.Join(answerMismatches(readDocument(t), "GET", "/api/v1/sessions/7/events?limit=1", a), "; ")
			if !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := answerMismatches(readDocument(t), "GET", "/api/v1/events", answerSeen{200, asJSON, good}); len(got) != 1 {
		t.Errorf("another content type: %q", got)
	}
}
