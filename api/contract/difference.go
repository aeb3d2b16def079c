package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Difference is one way in which a broker answers otherwise than Duffy.
type Difference struct {
	Cases  []string // names of cases, or their beginnings with a * behind; none: every case that fits
	Reason string
	// Depends marks what depends on the server's settings, or on how quick it is:
	// the recorded answer is fine as well.
	Depends bool
	// ours gives the answers that will do, or nothing where this difference has no
	// part in e.
	ours func(e Exchange) []Exchange
}

// Differences is every difference that a replay allows, and there is no other. A
// server may answer as one of them says, or as recorded; tests hold a broker to
// the first unless the difference Depends on something.
func Differences() []Difference {
	return []Difference{
		{
			Reason: "detail is always a string, since Duffy's own client breaks on a list; the list is in errors",
			ours:   validation,
		},
		{
			Cases:  []string{"method.delete.sessions", "method.delete.session", "method.patch.session", "method.options.pools", "method.post.pools"},
			Reason: "405 says in Allow what is allowed",
			ours: func(e Exchange) []Exchange {
				allow := "GET, HEAD"
				switch {
				case strings.HasSuffix(e.Path, "/sessions"):
					allow = "GET, HEAD, POST"
				case strings.Contains(e.Path, "/sessions/"):
					allow = "GET, HEAD, PUT"
				}
				e.Headers = map[string]string{"content-type": "application/json", "allow": allow}
				return one(e)
			},
		},
		{
			Cases:  []string{"method.head.pools"},
			Reason: "HEAD works like GET",
			ours: func(e Exchange) []Exchange {
				e.Status, e.Headers = http.StatusOK, map[string]string{"content-type": "application/json"}
				return one(e)
			},
		},
		{
			Cases:  []string{"pools.show.abstract"},
			Reason: "templates are no pools",
			ours:   refused(http.StatusNotFound, "Not Found"),
		},
		{
			Cases:  []string{"sessions.create.no_specs"},
			Reason: "a session without nodes is of no use, and hides mistakes",
			ours:   refused(http.StatusUnprocessableEntity, "nodes_specs is empty"),
		},
		{
			Cases:  []string{"sessions.list.anonymous", "sessions.list.tenant"},
			Reason: "there is no session without nodes",
			ours: edited(func(body map[string]any) {
				body["sessions"] = slices.DeleteFunc(list(body, "sessions"), func(s any) bool { return len(list(s, "nodes")) == 0 })
			}),
		},
		{
			Cases:  []string{"sessions.create.invalid.quantity_huge"},
			Reason: "a number beyond 32 bits counts as the largest",
			ours:   refused(http.StatusForbidden, "quota exceeded: requested nodes (2147483647) + current allocation (2) = 2147483649 > 2"),
		},
		{
			Cases:  []string{"sessions.show.huge_id", "sessions.update.unknown.expires"},
			Reason: "what is not there is 404, not 500",
			ours:   refused(http.StatusNotFound, "Not Found"),
		},
		{
			Cases:  []string{"sessions.expires.huge"},
			Reason: "a time that can't be is 422, not 500",
			ours:   refused(http.StatusUnprocessableEntity, "expires_at: time is out of range"),
		},
		{
			Cases:  []string{"sessions.expires.absolute_offset"},
			Reason: "the offset of a time counts",
			ours: edited(func(body map[string]any) {
				member(body, "session")["expires_at"] = "2089-12-31T19:00:00+00:00"
			}),
		},
		{
			Cases:  []string{"sessions.update.retire_and_expire", "sessions.retire", "sessions.retire.by_admin", "sessions.show.retired"},
			Reason: "a returned node keeps its pool and its state while it is destroyed",
			ours:   returnedNodes,
		},
		{
			Cases:  []string{"nodes.show", "nodes.show.done"},
			Reason: "a returned node keeps its pool, and is active until it is gone",
			ours:   returnedNode,
		},
		{
			Cases:  []string{"pools.show.after_retire"},
			Reason: "nodes that are being destroyed are counted",
			ours: edited(func(body map[string]any) {
				member(body, "pool")["levels"].(map[string]any)["deprovisioning"] = 4.0
			}),
		},
		{
			Cases:  []string{"tenants.create.dup", "tenants.create.dup_retired"},
			Reason: "no SQL, and no hash of a key",
			ours: func(e Exchange) []Exchange {
				var asked struct{ Name string }
				_ = json.Unmarshal(e.RequestBody, &asked) // the recording is JSON
				return refused(http.StatusConflict, fmt.Sprintf("tenant '%s' exists already", asked.Name))(e)
			},
		},
		{
			Cases:  []string{"nodes.create.dup_hostname"},
			Reason: "no SQL, but the host name",
			ours:   refused(http.StatusConflict, "node 302 has the host name 'new1.example.net' already"),
		},
		{
			Cases:  []string{"nodes.create.dup_ipaddr"},
			Reason: "no SQL, but the address",
			ours:   refused(http.StatusConflict, "node 302 has the address '127.9.1.1' already"),
		},
		{
			Cases:  []string{"context_fail.create"},
			Reason: "other nodes are tried before the request fails, and Retry-After says when to come again",
			ours: func(e Exchange) []Exchange {
				e.Headers = map[string]string{"content-type": "application/json", "retry-after": anyText}
				return one(e)
			},
		},
		{
			Cases:  []string{"context_fail.pool_after"},
			Reason: "other nodes were tried, too; those that failed are destroyed and replaced",
			ours: edited(func(body map[string]any) {
				levels := member(body, "pool")["levels"].(map[string]any)
				for _, name := range []string{"ready", "provisioning", "deprovisioning"} {
					levels[name] = anyNumber
				}
			}),
		},
		{
			Cases:  []string{"get.key_not_the_tenants"},
			Reason: "a legacy key belongs to a tenant: there is none that only the map of keys knows",
			ours:   refused(http.StatusForbidden, "Forbidden"),
		},

		{
			Reason:  "lists need a login, unless anonymous_read is on",
			Depends: true,
			ours:    closed,
		},
		{
			Cases:   []string{"get.too_many"},
			Reason:  "too few nodes: v2's plain text, upon which cico tries again, unless when_empty is v3",
			Depends: true,
			ours: func(e Exchange) []Exchange {
				text := "Insufficient Nodes in READY State"
				e.Headers = map[string]string{"content-type": "text/plain; charset=utf-8"}
				e.Body, e.Text = nil, &text
				return one(e)
			},
		},
	}
}

// LeftOut says why a case is not replayed against a server; "": it is. The server
// says what it can't do: canPostNodes.
func LeftOut(name string, canPostNodes bool) string {
	switch {
	case isCase(name, "api_down.*"):
		return "needs a legacy service whose API is down: a broker is one process, whose halves can't lose each other"
	case isCase(name, "nodes.create.*") && !canPostNodes:
		return "this server takes no nodes by POST (405)"
	}
	return ""
}

// Wanted says why a broker has to answer otherwise than recorded; "": it has not,
// whatever its settings are.
func Wanted(e Exchange) string {
	for _, a := range alternatives(e) {
		if a.reason != "" && !a.depends {
			return a.reason
		}
	}
	return ""
}

// alternative is an answer that is fine.
type alternative struct {
	Exchange
	reason  string // "": as recorded
	depends bool
}

// alternatives gives the answers to a request that are fine: the recorded one
// first, then ours.
func alternatives(e Exchange) []alternative {
	all := []alternative{{Exchange: e}}
	for _, d := range Differences() {
		if len(d.Cases) > 0 && !isCase(e.Case, d.Cases...) {
			continue
		}
		for _, ours := range d.ours(e) {
			ours.HasRequestID = true
			all = append(all, alternative{ours, d.Reason, d.Depends})
		}
	}
	return all
}

func one(e Exchange) []Exchange { return []Exchange{e} }

// refused is a difference that is an error.
func refused(status int, detail string) func(Exchange) []Exchange {
	return func(e Exchange) []Exchange {
		e.Status, e.Headers, e.Text = status, map[string]string{"content-type": "application/json"}, nil
		e.Body = encode(map[string]any{"detail": detail})
		return one(e)
	}
}

// edited is a difference within the body.
func edited(change func(body map[string]any)) func(Exchange) []Exchange {
	return func(e Exchange) []Exchange {
		var body map[string]any
		if json.Unmarshal(e.Body, &body) != nil {
			return nil // another answer than the one that the table was made for
		}
		change(body)
		e.Body = encode(body)
		return one(e)
	}
}

// validation turns the list of what is wrong with a request into a text.
func validation(e Exchange) []Exchange {
	var body struct {
		Detail []struct {
			Loc []any
			Msg string
		}
	}
	if e.Status != http.StatusUnprocessableEntity || json.Unmarshal(e.Body, &body) != nil || len(body.Detail) == 0 {
		return nil
	}
	var lines []string
	for _, d := range body.Detail {
		lines = append(lines, place(d.Loc)+": "+d.Msg)
	}
	return edited(func(body map[string]any) {
		body["errors"], body["detail"] = body["detail"], strings.Join(lines, "; ")
	})(e)
}

// place writes where something is wrong: nodes_specs[0].quantity.
func place(loc []any) string {
	text := ""
	for _, step := range loc[1:] {
		switch step := step.(type) {
		case float64:
			if text != "" {
				text += fmt.Sprintf("[%d]", int(step))
			}
		default:
			text += fmt.Sprint(".", step)
		}
	}
	if text == "" {
		return fmt.Sprint(loc[0])
	}
	return strings.TrimPrefix(text, ".")
}

// returnedNodes gives the nodes of a session that has ended, while they are
// being destroyed or when they are gone.
func returnedNodes(e Exchange) (all []Exchange) {
	for _, state := range []string{"deprovisioning", "done"} {
		all = append(all, edited(func(body map[string]any) {
			for _, n := range list(member(body, "session"), "nodes") {
				node := n.(map[string]any)
				node["pool"], node["state"] = member(node, "data", "nodes_spec")["pool"], state
			}
		})(e)...)
	}
	return all
}

func returnedNode(e Exchange) []Exchange {
	going := edited(func(body map[string]any) {
		node := member(body, "node")
		node["pool"] = member(node, "data", "nodes_spec")["pool"]
		node["state"], node["active"], node["retired_at"] = "deprovisioning", true, nil
	})
	gone := edited(func(body map[string]any) {
		node := member(body, "node")
		node["pool"] = member(node, "data", "nodes_spec")["pool"]
	})
	return append(going(e), gone(e)...)
}

// closed is what those get who do not log in, where that is needed.
func closed(e Exchange) []Exchange {
	if e.Method != http.MethodGet && e.Method != http.MethodHead || e.Status == http.StatusUnauthorized || e.Status == http.StatusTemporaryRedirect {
		return nil
	}
	path, _, _ := strings.Cut(e.Path, "?")
	if !isCase(path, "/api/v1/sessions", "/api/v1/nodes", "/api/v1/pools*") {
		return nil
	}
	detail, challenge := "", ""
	switch e.Auth {
	case "anonymous", "Bearer scheme":
		detail, challenge = "Not authenticated", `Basic realm="duffy"`
	case "wrong key for tenant":
		detail = "Unauthorized"
	default:
		return nil
	}
	if e.Method == http.MethodHead {
		e.Status, e.Headers = http.StatusUnauthorized, map[string]string{"content-type": "application/json"}
	} else {
		e = refused(http.StatusUnauthorized, detail)(e)[0]
	}
	if challenge != "" {
		e.Headers["www-authenticate"] = challenge
	}
	return one(e)
}

func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // can't be: it was read as JSON
	}
	return text
}

// list gives a list in an object; nil if there is none.
func list(object any, name string) []any {
	o, _ := object.(map[string]any)
	l, _ := o[name].([]any)
	return l
}

// member gives an object within others; an empty one if there is none.
func member(object any, path ...string) map[string]any {
	o, _ := object.(map[string]any)
	for _, name := range path {
		o, _ = o[name].(map[string]any)
	}
	if o == nil {
		o = make(map[string]any)
	}
	return o
}
