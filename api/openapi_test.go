package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
)

// TestDocument_routes: every route is in the document, and every operation of
// the document has a route. HEAD is as GET.
func TestDocument_routes(t *testing.T) {
	routes := make(map[string]bool)
	for _, r := range New(Config{Broker: newFake(), Log: slog.New(slog.DiscardHandler)}).(*gin.Engine).Routes() {
		routes[strings.Replace(r.Method, http.MethodHead, http.MethodGet, 1)+" "+documentPath(r.Path)] = true
	}
	documented := make(map[string]bool)
	for path, item := range readDocument(t)["paths"].(object) {
		for method := range item.(object) {
			documented[strings.ToUpper(method)+" "+path] = true
		}
	}
	if diff := cmp.Diff(routes, documented); diff != "" {
		t.Errorf("(-routes +document):\n%s", diff)
	}
}

// TestDocument_callers: who may call is as the table of TestAuthorization has it.
func TestDocument_callers(t *testing.T) {
	for _, o := range operations() {
		want := authorization[o.method+" "+o.path].want
		other, tenant := want[3], want[4]
		who := anyTenant
		switch {
		case want == public:
			who = anybody
		case want == strangers:
			who = nodeOnly
		case o.id == "webhook":
			who = secretOnly
		case want == nothing:
			who = legacyOnly
		case tenant == http.StatusForbidden:
			who = admins
		case other == http.StatusForbidden:
			who = owner
		}
		if o.who != who {
			t.Errorf("%s %s is for %s, but says %s", o.method, o.path, who, o.who)
		}
	}
}

// TestDocument_structure checks what OpenAPI 3.1 wants of a document, as far as
// ours has it.
func TestDocument_structure(t *testing.T) {
	d := readDocument(t)
	if d["openapi"] != "3.1.0" || d["info"].(object)["title"] == "" || d["info"].(object)["version"] != "1.2.3" {
		t.Errorf("head: %v %v", d["openapi"], d["info"])
	}
	var tags []any
	for _, tag := range d["tags"].([]any) {
		tags = append(tags, tag.(object)["name"])
	}
	schemes := d["components"].(object)["securitySchemes"].(object)
	ids := make(map[any]bool)
	used := make(map[string]bool)
	for path, item := range d["paths"].(object) {
		if !strings.HasPrefix(path, "/") {
			t.Errorf("path %q", path)
		}
		for method, o := range item.(object) {
			o, at := o.(object), method+" "+path
			if ids[o["operationId"]] || o["operationId"] == "" {
				t.Errorf("%s: operationId %v is there twice, or none", at, o["operationId"])
			}
			ids[o["operationId"]] = true
			if !slices.Contains(tags, o["tags"].([]any)[0]) {
				t.Errorf("%s: unknown tag %v", at, o["tags"])
			}
			for _, s := range o["security"].([]any) {
				for name := range s.(object) {
					if schemes[name] == nil {
						t.Errorf("%s: unknown security scheme %s", at, name)
					}
				}
			}
			checkParameters(t, at, path, o)
			for status, r := range o["responses"].(object) {
				if r.(object)["description"] == "" || status != "default" && !regexp.MustCompile(`^[1-5]\d\d$`).MatchString(status) {
					t.Errorf("%s: response %s: %v", at, status, r)
				}
			}
			if body, ok := o["requestBody"].(object); ok && (method == "get" || method == "delete" || body["content"] == nil) {
				t.Errorf("%s: body %v", at, body)
			}
		}
	}
	walk(d, func(o object) {
		if ref, ok := o["$ref"].(string); ok {
			used[ref] = true
			if lookup(d, ref) == nil {
				t.Errorf("nothing is at %s", ref)
			}
		}
		if properties, ok := o["properties"].(object); ok {
			if properties[""] != nil {
				t.Errorf("a field without a name: %v", o)
			}
			required, _ := o["required"].([]any)
			for _, name := range required {
				if properties[name.(string)] == nil {
					t.Errorf("required %v is no property", name)
				}
			}
		}
	})
	for name := range d["components"].(object)["schemas"].(object) {
		if !used["#/components/schemas/"+name] {
			t.Errorf("nothing uses schema %s", name)
		}
	}
}

func checkParameters(t *testing.T, at, path string, o object) {
	t.Helper()
	parameters, _ := o["parameters"].([]any)
	seen := make(map[string]bool)
	for _, p := range parameters {
		p := p.(object)
		key := fmt.Sprint(p["in"], " ", p["name"])
		if seen[key] || p["schema"] == nil || p["in"] == "path" && p["required"] != true {
			t.Errorf("%s: parameter %v", at, p)
		}
		seen[key] = true
	}
	for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		if !seen["path "+m[1]] {
			t.Errorf("%s: parameter %s of the path is not described", at, m[1])
		}
		delete(seen, "path "+m[1])
	}
	for key := range seen {
		if strings.HasPrefix(key, "path ") {
			t.Errorf("%s: there is no %s", at, key)
		}
	}
}

// walk calls f with every object in v.
func walk(v any, f func(object)) {
	switch v := v.(type) {
	case object:
		f(v)
		for _, member := range v {
			walk(member, f)
		}
	case []any:
		for _, item := range v {
			walk(item, f)
		}
	}
}

// requests gives every operation with the path of an object.
func requests(visit func(o operation, path string)) {
	for _, o := range operations() {
		visit(o, strings.NewReplacer(":id", "7", ":name", "small", ":key", "1", ":mac", "52:54:00:00:00:01").Replace(o.path))
	}
}

// TestDocument_bodies: an example is as its schema says and is taken, also with
// the needed fields alone; without any of those, or with a value of a wrong type
// in any field, the body is refused. So the handlers read what the document says.
func TestDocument_bodies(t *testing.T) {
	url := start(t, Config{Broker: newFake()})
	requests(func(o operation, path string) {
		if o.body == nil {
			return
		}
		try := func(body object) answerSeen {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if o.who == nodeOnly {
				return send(t, o.method, url+strings.Replace(path, ":token", goodToken, 1), string(text), asNode)
			}
			return send(t, o.method, url+path, string(text), asDemo)
		}
		media := findOperation(readDocument(t), o.method, path)["requestBody"].(object)["content"].(object)[jsonType].(object)
		example, schema := decoded(t, []byte(o.example)), media["schema"].(object)
		if wrong := mismatches(readDocument(t), schema, decodedNumbers(t, o.example), o.id); wrong != nil {
			t.Errorf("example: %s", wrong)
		}
		if a := try(example); a.status >= 300 {
			t.Errorf("%s: the example is refused: %d %s", o.id, a.status, a.body)
		}
		for _, name := range o.needs {
			body := object{}
			for _, other := range o.needs {
				if other != name {
					body[other] = example[other]
				}
			}
			if a := try(body); a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s without %s: %d", o.id, name, a.status)
			}
			body[name] = example[name]
			if a := try(body); a.status >= 300 {
				t.Errorf("%s with what it needs: %d %s", o.id, a.status, a.body)
			}
		}
		for name, property := range lookup(readDocument(t), schema["$ref"].(string)).(object)["properties"].(object) {
			body := object{}
			for _, needed := range o.needs {
				body[needed] = example[needed]
			}
			body[name] = object{}
			if property.(object)["type"] == "object" {
				body[name] = "word"
			}
			a := try(body)
			if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"`+name+`"`) {
				t.Errorf("%s does not read %s: %d %s", o.id, name, a.status, a.body)
			}
		}
	})
}

// TestDocument_parameters: a word where a number or a boolean must be is refused,
// so handlers read those parameters.
func TestDocument_parameters(t *testing.T) {
	url := start(t, Config{Broker: newFake()})
	requests(func(o operation, path string) {
		for _, p := range o.parameters {
			if _, text := p.of.(string); text || o.tag == "legacy" {
				continue
			}
			change, query := asDemo, "?"+p.name+"=word"
			if p.in == "header" {
				query = ""
				change = func(r *http.Request) { asDemo(r); r.Header.Set(p.name, "word") }
			}
			if a := send(t, o.method, url+path+query, "", change); a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s does not read %s: %d %s", o.id, p.name, a.status, a.body)
			}
		}
	})
}

func decodedNumbers(t *testing.T, text string) (v any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestDocument_anonymousRead: where lists are open, the document says so.
func TestDocument_anonymousRead(t *testing.T) {
	f := newFake()
	url := start(t, Config{Broker: f, AnonymousRead: true})
	open := decoded(t, []byte(send(t, http.MethodGet, url+"/openapi.json", "", nil).body))
	requests(func(o operation, path string) {
		if o.method != http.MethodGet || o.tag == "legacy" {
			return
		}
		security := findOperation(open, o.method, path)["security"].([]any)
		says := len(security) != 1
		if does := send(t, o.method, url+path, "", nil).status != http.StatusUnauthorized; does != says {
			t.Errorf("%s is open: %t, but the document says %v", o.id, does, security)
		}
	})
}

// TestDocs: the page is served whole and asks nobody else for anything.
func TestDocs(t *testing.T) {
	url := start(t, Config{Broker: newFake()})
	a := send(t, http.MethodGet, url+"/docs", "", nil)
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || a.body != docsPage {
		t.Errorf("%d %s, %d bytes", a.status, a.header, len(a.body))
	}
	if head := send(t, http.MethodHead, url+"/docs", "", nil); head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %d %q", head.status, head.body)
	}
	// Any scheme, or a host without one, and what loads or stores anything.
	for _, bad := range []string{`https?:`, `["'(]//`, `\ssrc=`, `@import`, `url\(`, `import\(`, `<link`, `Storage`, `document\.cookie`, `innerHTML`, `\son\w+=`, `\sstyle=`} {
		if found := regexp.MustCompile(bad).FindString(docsPage); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	for _, element := range []string{"script", "style"} {
		if n := strings.Count(docsPage, "<"+element); n != 1 || !strings.Contains(docsPage, "<"+element+">") {
			t.Errorf("%d elements %s: the policy allows one, without attributes", n, element)
		}
		if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, element+"-src "+hashOf(element)) {
			t.Errorf("policy %q", policy)
		}
	}
	if lines := strings.Count(docsPage, "\n"); lines > 400 {
		t.Errorf("%d lines", lines)
	}
}
