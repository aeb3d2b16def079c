package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// caller says who may make a call, in the words of the document.
type caller string

const (
	anybody    caller = "anybody"
	anyTenant  caller = "every tenant"
	owner      caller = "the tenant that it belongs to, and admins"
	admins     caller = "admins"
	secretOnly caller = "who knows the secret of the webhook"
	nodeOnly   caller = "the node, with its token"
	legacyOnly caller = "who has a key of the legacy API"
)

// operation describes one route. What it takes and answers are Go types, by a
// value of each.
type operation struct {
	id, method, path string // path as the router has it
	tag, summary     string
	who              caller
	parameters       []parameter // but those of the path
	body             any         // nil: none
	needs            []string    // the fields without which the body is refused
	bodyOptional     bool
	example          string     // of the body
	answers          []response // those of its own: errors that all share are added
}

type parameter struct {
	name, in string
	of       any // a value of its type
	about    string
}

type response struct {
	status    int
	mediaType string // "": no body
	of        any
}

const jsonType = "application/json"

func ok(of any) response      { return response{http.StatusOK, jsonType, of} }
func created(of any) response { return response{http.StatusCreated, jsonType, of} }
func conflict() response      { return response{http.StatusConflict, jsonType, v1.Error{}} }
func flow(t string) response  { return response{http.StatusOK, t, ""} }

func query(name string, of any, about string) parameter {
	return parameter{name: name, in: "query", of: of, about: about}
}

// page gives the parameters of lists that can be read in parts.
func page(more ...parameter) []parameter {
	return append(more, query("after", 0, "only what has a larger id"), query("limit", 0, "at most so many, 1 or more"))
}

// operations is every route of the API. It is a table beside the handlers, and no
// framework that reads requests by their schemas: Duffy's clients rely on how
// leniently bodies are read here. Tests see to it that the two agree.
func operations() []operation {
	legacyKey := response{http.StatusForbidden, jsonType, v1.LegacyRefusal{}}
	ssid := query("ssid", "", "the session")
	return []operation{
		{
			id: "createSession", method: "POST", path: "/api/v1/sessions", tag: "sessions", who: anyTenant,
			summary:    "Request nodes: all of them, or none",
			parameters: []parameter{{"Idempotency-Key", "header", "", "the same key with the same body gives the same session, for 24 hours"}},
			body:       v1.SessionCreate{}, needs: []string{"nodes_specs"}, example: `{"nodes_specs": [{"pool": "local", "quantity": 1}]}`,
			answers: []response{created(v1.SessionAnswer{}), conflict()},
		},
		{
			id: "listSessions", method: "GET", path: "/api/v1/sessions", tag: "sessions", who: anyTenant,
			summary: "List one's own sessions; admins: all",
			parameters: page(query("active", true, "false: those that have ended"),
				query("tenant", "", "the name of a tenant: only its sessions")),
			answers: []response{ok(v1.SessionsAnswer{})},
		},
		{
			id: "showSession", method: "GET", path: "/api/v1/sessions/:id", tag: "sessions", who: owner,
			summary: "Show a session", answers: []response{ok(v1.SessionAnswer{})},
		},
		{
			id: "updateSession", method: "PUT", path: "/api/v1/sessions/:id", tag: "sessions", who: owner,
			summary: "Retire a session, or change when it ends",
			body:    v1.SessionUpdate{}, example: `{"expires_at": "+1h"}`,
			answers: []response{ok(v1.SessionAnswer{}), conflict()},
		},
		{
			id: "listSessionEvents", method: "GET", path: "/api/v1/sessions/:id/events", tag: "sessions", who: owner,
			summary: "List what happened to a session and its nodes", parameters: page(), answers: []response{ok(v1.EventsAnswer{})},
		},
		{
			id: "listPools", method: "GET", path: "/api/v1/pools", tag: "pools", who: anyTenant,
			summary: "List the pools", answers: []response{ok(v1.PoolsAnswer{})},
		},
		{
			id: "showPool", method: "GET", path: "/api/v1/pools/:name", tag: "pools", who: anyTenant,
			summary: "Show a pool and how many nodes it has", answers: []response{ok(v1.PoolAnswer{})},
		},
		{
			id: "showPoolStatus", method: "GET", path: "/api/v1/pools/:name/status", tag: "pools", who: anyTenant,
			summary: "Show how a pool does; admins: with its schedule, failures and Terraform runs", answers: []response{ok(v1.PoolStatusAnswer{})},
		},
		{
			id: "listNodes", method: "GET", path: "/api/v1/nodes", tag: "nodes", who: anyTenant,
			summary: "List the nodes of one's own sessions; admins: all, and the hosts of inventories that are free",
			parameters: page(query("pool", "", "the name of a pool: only its nodes"),
				query("inventory", "", "the name of an inventory: only its hosts, also those in use"),
				query("state", "", "states with commas between: only nodes in one of them")),
			answers: []response{ok(v1.NodesAnswer{})},
		},
		{
			id: "createNode", method: "POST", path: "/api/v1/nodes", tag: "nodes", who: admins,
			summary: "Add a machine to the inventory of the API",
			body:    v1.NodeCreate{}, needs: []string{"hostname", "ipaddr"},
			example: `{"hostname": "n1.example.net", "ipaddr": "192.0.2.1", "data": {"arch": "x86_64"}}`,
			answers: []response{created(v1.NodeAnswer{}), conflict()},
		},
		{
			id: "showNode", method: "GET", path: "/api/v1/nodes/:id", tag: "nodes", who: owner,
			summary: "Show a node", answers: []response{ok(v1.NodeAnswer{})},
		},
		{
			id: "updateNode", method: "PUT", path: "/api/v1/nodes/:id", tag: "nodes", who: admins,
			summary: "Take a machine of an inventory out of use for good, or put it back to use after failures",
			body:    v1.NodeUpdate{}, example: `{"active": false}`,
			answers: []response{ok(v1.NodeAnswer{})},
		},
		{
			id: "readNodeLogs", method: "GET", path: "/api/v1/nodes/:id/logs", tag: "nodes", who: admins,
			summary:    "Read what Terraform wrote about a node: JSON, a line each",
			parameters: []parameter{query("run", 0, "only this run"), query("follow", false, "go on while Terraform runs")},
			answers:    []response{flow("application/x-ndjson")},
		},
		{
			id: "holdNode", method: "POST", path: "/api/v1/nodes/:id/hold", tag: "nodes", who: admins,
			summary: "Keep a node as it is", body: v1.HoldCreate{}, bodyOptional: true, example: `{"reason": "looking at it"}`,
			answers: []response{ok(v1.NodeAnswer{}), conflict()},
		},
		{
			id: "releaseNode", method: "DELETE", path: "/api/v1/nodes/:id/hold", tag: "nodes", who: admins,
			summary: "Stop keeping a node", answers: []response{ok(v1.NodeAnswer{}), conflict()},
		},
		{
			id: "openWorkspace", method: "POST", path: "/api/v1/nodes/:id/workspace", tag: "nodes", who: admins,
			summary: "Hold a node, and make a directory for Terraform on the broker's machine",
			body:    v1.HoldCreate{}, bodyOptional: true, example: `{"reason": "a change by hand"}`,
			answers: []response{created(v1.WorkspaceAnswer{}), conflict()},
		},
		{
			id: "returnWorkspace", method: "DELETE", path: "/api/v1/nodes/:id/workspace", tag: "nodes", who: admins,
			summary: "Take the state in that directory back", parameters: []parameter{query("discard", false, "true: leave what changed in it")},
			answers: []response{ok(v1.NodeAnswer{}), conflict()},
		},
		{
			id: "notify", method: "POST", path: "/api/v1/notices", tag: "nodes", who: nodeOnly,
			summary: "Tell that the machine will go away: it leaves the stock, or its tenant is told",
			body:    v1.Notice{}, needs: []string{"kind"}, example: `{"kind": "interruption", "action": "terminate", "at": "2026-01-02T03:04:05Z"}`,
			answers: []response{{status: http.StatusNoContent}},
		},
		{
			id: "readBootFile", method: "GET", path: "/boot/:token/*path", tag: "nodes", who: nodeOnly,
			summary: "Read a file to boot from, while the node is being made", answers: []response{flow("*/*")},
		},
		{
			id: "reportBoot", method: "POST", path: "/boot/:token/done", tag: "nodes", who: nodeOnly,
			summary: "Tell that the machine has been installed: it boots from the broker no more",
			body:    v1.BootReport{}, bodyOptional: true, example: `{"ssh_host_keys": ["ssh-ed25519 AAAA..."]}`,
			answers: []response{{status: http.StatusNoContent}, conflict()},
		},
		{
			id: "bootByMAC", method: "GET", path: "/boot/mac/:mac", tag: "nodes", who: anybody,
			summary: "Give the iPXE script of the machine with a network card", answers: []response{flow("text/plain")},
		},
		{
			id: "createTenant", method: "POST", path: "/api/v1/tenants", tag: "tenants", who: admins,
			summary: "Create a tenant; the answer shows its API key, this once",
			body:    v1.TenantCreate{}, needs: []string{"name", "ssh_key"}, example: `{"name": "ci", "ssh_key": "ssh-ed25519 AAAA... ci"}`,
			answers: []response{created(v1.TenantCreatedAnswer{}), conflict()},
		},
		{
			id: "listTenants", method: "GET", path: "/api/v1/tenants", tag: "tenants", who: anyTenant,
			summary: "List oneself; admins: all tenants", parameters: page(), answers: []response{ok(v1.TenantsAnswer{})},
		},
		{
			id: "showTenant", method: "GET", path: "/api/v1/tenants/:id", tag: "tenants", who: owner,
			summary: "Show a tenant", answers: []response{ok(v1.TenantAnswer{})},
		},
		{
			id: "updateTenant", method: "PUT", path: "/api/v1/tenants/:id", tag: "tenants", who: admins,
			summary: "Change a tenant, or retire it",
			body:    v1.TenantUpdate{}, example: `{"api_key": "reset", "previous_api_key": "keep"}`,
			answers: []response{ok(v1.TenantWithKeyAnswer{}), conflict()},
		},
		{
			id: "whoami", method: "GET", path: "/api/v1/whoami", tag: "tenants", who: anyTenant,
			summary: "Show the tenant that one is", answers: []response{ok(v1.TenantAnswer{})},
		},
		{
			id: "streamEvents", method: "GET", path: "/api/v1/events", tag: "operation", who: anyTenant,
			summary: "Follow what happens, as Server-Sent Events with an Event as data each",
			parameters: []parameter{
				query("after", 0, "begin after this event, not with the next"),
				{"Last-Event-ID", "header", 0, "as after, which it goes before"},
			},
			answers: []response{flow("text/event-stream")},
		},
		{
			id: "showStats", method: "GET", path: "/api/v1/stats", tag: "operation", who: anyTenant,
			summary: "Count the nodes that were ever lent; of all tenants for admins", answers: []response{ok(v1.StatsAnswer{})},
		},
		{
			id: "listRollouts", method: "GET", path: "/api/v1/rollouts", tag: "operation", who: admins,
			summary: "Tell of each pool how far the replacement of its stale nodes is", answers: []response{ok(v1.RolloutsAnswer{})},
		},
		{
			id: "orderRollout", method: "POST", path: "/api/v1/rollouts/:name", tag: "operation", who: admins,
			summary: "Pause, resume, hurry or abort the rollout of a pool", body: v1.RolloutOrder{}, needs: []string{"order"},
			example: `{"order": "pause", "reason": "looking at the first node"}`, answers: []response{ok(v1.RolloutAnswer{}), conflict()},
		},
		{
			id: "showReload", method: "GET", path: "/api/v1/reload", tag: "operation", who: admins,
			summary: "Tell how the last reading of the pools went", answers: []response{ok(v1.ReloadAnswer{})},
		},
		{
			id: "reload", method: "POST", path: "/api/v1/reload", tag: "operation", who: admins,
			summary: "Read the pools again: all of them, or none if there is a mistake",
			body:    v1.ReloadOrder{}, bodyOptional: true, example: `{"confirm": "0123456789abcdef"}`,
			answers: []response{ok(v1.ReloadAnswer{}), conflict(), {http.StatusUnprocessableEntity, jsonType, v1.Error{}}, {http.StatusServiceUnavailable, jsonType, v1.Error{}}},
		},
		{
			id: "webhook", method: "POST", path: "/api/v1/reload/webhook", tag: "operation", who: secretOnly,
			summary: "Tell of a push to the repository of the pools, as GitHub, Gitea or GitLab do", answers: []response{{status: http.StatusAccepted}},
		},
		{
			id: "takeSnapshot", method: "GET", path: "/api/v1/snapshot", tag: "operation", who: admins,
			summary: "Show what a plan compares a changed file with: settings, nodes, sessions; no secrets", answers: []response{ok(v1.SnapshotAnswer{})},
		},
		{
			id: "health", method: "GET", path: "/health", tag: "operation", who: anybody,
			summary: "Tell whether the broker can work", answers: []response{ok(v1.Health{}), {http.StatusServiceUnavailable, jsonType, v1.Error{}}},
		},
		{
			id: "alive", method: "GET", path: "/healthz", tag: "operation", who: anybody,
			summary: "Tell that the broker runs", answers: []response{ok(v1.Health{})},
		},
		{
			id: "ready", method: "GET", path: "/readyz", tag: "operation", who: anybody,
			summary: "Tell whether the broker does its work: the store takes changes, the nodes are looked at, and no stop was asked for",
			answers: []response{ok(v1.Health{}), {http.StatusServiceUnavailable, jsonType, v1.Error{}}},
		},
		{
			id: "metrics", method: "GET", path: "/metrics", tag: "operation", who: admins,
			summary: "Give the metrics, for Prometheus", answers: []response{flow("text/plain"), {http.StatusNotFound, jsonType, v1.Error{}}},
		},
		{
			id: "listLegacyKeys", method: "GET", path: "/api/v1/legacy-keys", tag: "legacy keys", who: admins,
			summary: "List the keys of the legacy API, with their use", answers: []response{ok(v1.LegacyKeysAnswer{})},
		},
		{
			id: "createLegacyKey", method: "POST", path: "/api/v1/tenants/:id/legacy-keys", tag: "legacy keys", who: admins,
			summary: "Give a tenant a key of the legacy API", body: v1.LegacyKeyCreate{}, example: `{"note": "jenkins"}`,
			answers: []response{created(v1.LegacyKeyAnswer{}), conflict()},
		},
		{
			id: "deleteLegacyKey", method: "DELETE", path: "/api/v1/tenants/:id/legacy-keys/:key", tag: "legacy keys", who: admins,
			summary: "Remove a key of the legacy API", answers: []response{{status: http.StatusNoContent}},
		},
		{
			id: "legacyGet", method: "GET", path: "/Node/get", tag: "legacy", who: legacyOnly,
			summary: "Request nodes. A text in the answer says why there are none",
			parameters: []parameter{
				query("ver", "", "version"), query("arch", "", "architecture"), query("flavor", "", "size"), query("count", 0, "how many nodes"),
			},
			answers: []response{
				ok(v1.LegacySession{}), ok(""), {http.StatusOK, "text/plain", ""}, {http.StatusTooManyRequests, jsonType, ""},
			},
		},
		{
			id: "legacyDone", method: "GET", path: "/Node/done", tag: "legacy", who: legacyOnly,
			summary: "Give a session back", parameters: []parameter{ssid}, answers: []response{ok("")},
		},
		{
			id: "legacyFail", method: "GET", path: "/Node/fail", tag: "legacy", who: legacyOnly,
			summary: "Keep a session for a while, to look at its nodes", parameters: []parameter{ssid}, answers: []response{ok(""), legacyKey},
		},
		{
			id: "legacyInventory", method: "GET", path: "/Inventory", tag: "legacy", who: legacyOnly,
			summary: "List one's own nodes, as pairs of name and session or as rows", answers: []response{ok([][]any{}), legacyKey},
		},
		{
			id: "openapi", method: "GET", path: "/openapi.json", tag: "documentation", who: anybody,
			summary: "This document", answers: []response{ok(map[string]any{})},
		},
		{
			id: "docs", method: "GET", path: "/docs", tag: "documentation", who: anybody,
			summary: "A page that shows this document and makes its calls", answers: []response{flow("text/html")},
		},
	}
}

// document is the API in OpenAPI 3.1.
func document(version string, anonymousRead bool) object {
	types, paths := schemas{}, object{}
	for _, o := range operations() {
		path := documentPath(o.path)
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(o.method)] = o.document(types, anonymousRead)
	}
	if version == "" {
		version = "unknown"
	}
	tags := []object{}
	for _, t := range [][2]string{
		{"sessions", "Nodes on loan"},
		{"pools", "What nodes there are"},
		{"nodes", "Single nodes"},
		{"tenants", "Who may borrow nodes"},
		{"operation", "How the broker does"},
		{"legacy keys", "Keys of the legacy API"},
		{"legacy", "The API of Duffy v2, for old jobs; not found where it is not switched on at this port"},
		{"documentation", "The API itself"},
	} {
		tags = append(tags, object{"name": t[0], "description": t[1]})
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "duffy-broker", "version": version, "description": "Lends nodes from pools, over the API of Duffy v3."},
		"tags":    tags,
		"paths":   paths,
		"components": object{
			"schemas": types,
			"securitySchemes": object{
				"basic":  object{"type": "http", "scheme": "basic", "description": "name of the tenant, and its API key"},
				"legacy": object{"type": "apiKey", "in": "query", "name": "key"},
				"node":   object{"type": "http", "scheme": "bearer", "description": "token of the node; below /boot it stands in the path"},
			},
		},
	}
}

// documentPath writes a path of the router as the document does.
func documentPath(path string) string {
	steps := strings.Split(path, "/")
	for i, step := range steps {
		if name, ok := pathParameter(step); ok {
			steps[i] = "{" + name + "}"
		}
	}
	return strings.Join(steps, "/")
}

// pathParameter gives the name of a parameter, if a step of the router's path is
// one.
func pathParameter(step string) (string, bool) {
	if name, ok := strings.CutPrefix(step, "*"); ok {
		return name, true
	}
	return strings.CutPrefix(step, ":")
}

func (o operation) document(types schemas, anonymousRead bool) object {
	d := object{
		"operationId": o.id, "tags": []string{o.tag}, "summary": o.summary,
		"description": "Who may call: " + string(o.who) + ".", "security": o.security(anonymousRead),
	}
	parameters := []object{}
	for step := range strings.SplitSeq(o.path, "/") {
		if name, ok := pathParameter(step); ok {
			var of any = ""
			if name == "id" || name == "key" {
				of = int64(0)
			}
			parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": types.of(reflect.TypeOf(of))})
		}
	}
	inPath := len(parameters) > 0
	for _, p := range o.parameters {
		parameters = append(parameters, object{"name": p.name, "in": p.in, "description": p.about, "schema": types.of(reflect.TypeOf(p.of))})
	}
	if len(parameters) > 0 {
		d["parameters"] = parameters
	}
	if o.body != nil {
		t := reflect.TypeOf(o.body)
		schema := types.of(t)
		delete(types[t.Name()].(object), "required") // of a request it is the operation that knows
		if o.needs != nil {
			types[t.Name()].(object)["required"] = o.needs
		}
		d["requestBody"] = object{
			"required": !o.bodyOptional,
			"content":  object{jsonType: object{"schema": schema, "example": json.RawMessage(o.example)}},
		}
	}
	responses := object{}
	for _, r := range append(o.answers, o.errors(inPath)...) {
		r.addTo(responses, types)
	}
	responses["default"] = object{"description": "Any other error", "content": object{jsonType: object{"schema": types.of(reflect.TypeFor[v1.Error]())}}}
	d["responses"] = responses
	return d
}

// security says what a call needs: each element is enough.
func (o operation) security(anonymousRead bool) []object {
	switch {
	case o.who == anybody, o.who == secretOnly:
		return []object{}
	case o.who == legacyOnly:
		return []object{{"legacy": []string{}}}
	case o.who == nodeOnly:
		return []object{{"node": []string{}}}
	case anonymousRead && (o.id == "listPools" || o.id == "showPool" || o.id == "listSessions" || o.id == "listNodes"):
		return []object{{"basic": []string{}}, {}}
	}
	return []object{{"basic": []string{}}}
}

// errors gives the refusals that follow from what an operation takes.
func (o operation) errors(inPath bool) (all []response) {
	add := func(when bool, statuses ...int) {
		for _, status := range statuses {
			if when {
				all = append(all, response{status, jsonType, v1.Error{}})
			}
		}
	}
	add(o.who != anybody, http.StatusForbidden, http.StatusTooManyRequests)
	add(o.who != anybody && o.who != legacyOnly, http.StatusUnauthorized)
	add(inPath || o.who == legacyOnly || o.who == secretOnly, http.StatusNotFound)
	add(inPath || o.body != nil || o.parameters != nil, http.StatusUnprocessableEntity)
	add(o.body != nil || o.who == secretOnly, http.StatusRequestEntityTooLarge)
	return all
}

// addTo adds an answer to those of an operation. A status may have several.
func (r response) addTo(responses object, types schemas) {
	status := strconv.Itoa(r.status)
	if responses[status] == nil {
		responses[status] = object{"description": http.StatusText(r.status)}
	}
	d := responses[status].(object)
	if r.mediaType == "" {
		return
	}
	if d["content"] == nil {
		d["content"] = object{}
	}
	content, schema := d["content"].(object), types.of(reflect.TypeOf(r.of))
	if before, ok := content[r.mediaType].(object); ok {
		schema = object{"anyOf": []any{before["schema"], schema}}
	}
	content[r.mediaType] = object{"schema": schema}
}

func (s *server) showDocument(c *gin.Context) error {
	d, err := s.document()
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, d)
}
