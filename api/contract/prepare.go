package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// Prepare makes the tenants of the seed that a server does not have, as its
// admin: that one must be there, and its key in the seed. On a duffy-broker the
// tenants get their API keys as legacy keys, too; a Duffy has those in its
// configuration. Pools and nodes must be there already.
func Prepare(ctx context.Context, s Server) error {
	r := &Replayer{server: s, recorded: s.Seed, transport: s.Transport}
	if r.transport == nil {
		r.transport = http.DefaultTransport
	}
	call := func(method, path string, body any, fine ...int) (any, error) {
		seen, err := r.Ask(ctx, Exchange{Method: method, Path: "/api/v1" + path, Auth: "admin", RequestBody: requestText(body)})
		if err != nil {
			return nil, err
		}
		if slices.Contains(fine, seen.Status) {
			return decode(seen.Body), nil
		}
		return nil, fmt.Errorf("%s %s: status %d: %s", method, path, seen.Status, answerText(seen))
	}
	known, err := call(http.MethodGet, "/tenants", nil, http.StatusOK)
	if err != nil {
		return err
	}
	names := make(map[any]bool)
	for _, t := range list(known, "tenants") {
		names[member(t)["name"]] = true
	}
	for _, t := range s.Seed.Tenants {
		if names[t.Name] {
			continue
		}
		made, err := call(http.MethodPost, "/tenants", map[string]any{
			"name": t.Name, "ssh_key": t.SSHKey, "is_admin": t.IsAdmin, "node_quota": t.Quota,
		}, http.StatusCreated)
		if err != nil {
			return err
		}
		path := fmt.Sprintf("/tenants/%d", number(member(made, "tenant")["id"]))
		if _, err := call(http.MethodPut, path, map[string]any{"api_key": t.APIKey}, http.StatusOK); err != nil {
			return err
		}
		// A Duffy has no such path.
		if _, err := call(http.MethodPost, path+"/legacy-keys", map[string]any{"key": t.APIKey}, http.StatusCreated, http.StatusNotFound, http.StatusMethodNotAllowed); err != nil {
			return err
		}
		if t.Active {
			continue
		}
		if _, err := call(http.MethodPut, path, map[string]any{"active": false}, http.StatusOK); err != nil {
			return err
		}
	}
	return nil
}

// Record makes the requests of a recording and gives what the server answers, as
// a recording of its own. It leaves out what [LeftOut] does. New API keys that the
// server gives out are in it.
func (r *Replayer) Record(ctx context.Context, recording []Exchange) ([]Exchange, error) {
	var seen []Exchange
	for _, e := range recording {
		if LeftOut(e.Case, r.canPostNodes) != "" {
			continue
		}
		answer, err := r.Ask(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("case %s: %w", e.Case, err)
		}
		r.learn(e, answer)
		seen = append(seen, answer)
	}
	return seen, nil
}

func requestText(body any) json.RawMessage {
	if body == nil {
		return nil
	}
	return encode(body)
}
