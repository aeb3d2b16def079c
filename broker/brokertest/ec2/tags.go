package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// tagged is one resource that has tags.
type tagged struct {
	id, kind string
	tags     map[string]string
}

// tagged gives all resources that can have tags, by id.
func (s *Server) tagged() map[string]tagged {
	all := map[string]tagged{}
	for id, i := range s.instances {
		all[id] = tagged{id, "instance", i.Tags}
	}
	for id, v := range s.volumes {
		all[id] = tagged{id, "volume", v.Tags}
	}
	for id, n := range s.interfaces {
		all[id] = tagged{id, "network-interface", n.Tags}
	}
	for id, t := range s.templates {
		all[id] = tagged{id, "launch-template", t.tags}
	}
	for id, g := range s.groups {
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		all[id] = tagged{id, "security-group", g.Tags}
	}
	for id, r := range s.spots {
		all[id] = tagged{id, "spot-instances-request", r.tags}
	}
	return all
}

// Tags gives the tags of everything that a client has made and that still exists, by
// its name in [Server.Left]. Those that EC2 sets by itself are left out.
func (s *Server) Tags() map[string]map[string]string {
	left := s.Left()
	s.mu.Lock()
	defer s.mu.Unlock()
	tags := map[string]map[string]string{}
	for id, r := range s.tagged() {
		if name := r.kind + " " + id; slices.Contains(left, name) {
			tags[name] = maps.Clone(r.tags)
			maps.DeleteFunc(tags[name], func(key, _ string) bool { return strings.HasPrefix(key, "aws:") })
		}
	}
	return tags
}

func (s *Server) createTags(_ *http.Request, p *params) ([]element, error) {
	return s.changeTags(p, func(tags, given map[string]string) { maps.Copy(tags, given) })
}

func (s *Server) deleteTags(_ *http.Request, p *params) ([]element, error) {
	return s.changeTags(p, func(tags, given map[string]string) {
		for key := range given {
			delete(tags, key)
		}
	})
}

func (s *Server) changeTags(p *params, change func(tags, given map[string]string)) ([]element, error) {
	all, given := s.tagged(), p.tags("Tag")
	for key := range given {
		if strings.HasPrefix(key, "aws:") {
			return nil, &fault{"InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use"}
		}
	}
	for _, id := range p.texts("ResourceId") {
		r, ok := all[id]
		if !ok {
			return nil, &fault{"InvalidID", fmt.Sprintf("The ID '%s' is not valid", id)}
		}
		change(r.tags, given)
	}
	return []element{e("return", true)}, nil
}

func (s *Server) describeTags(_ *http.Request, p *params) ([]element, error) {
	type tag struct{ id, kind, key, value string }
	all := map[string]tag{}
	for id, r := range s.tagged() {
		for key, value := range r.tags {
			all[id+" "+key] = tag{id, r.kind, key, value}
		}
	}
	ids, err := sortedIDs(all, p, "", "", "", func(t tag) fieldsOf {
		return fieldsOf{"resource-id": {t.id}, "resource-type": {t.kind}, "key": {t.key}, "value": {t.value}}
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("tagSet", ids, func(id string) []element {
		t := all[id]
		return []element{e("resourceId", t.id), e("resourceType", t.kind), e("key", t.key), e("value", t.value)}
	}), opt("nextToken", next)}, err
}

// serveTagging is the tagging API, of which there is GetResources.
func (s *Server) serveTagging(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("X-Amz-Target")
	name = name[strings.LastIndex(name, ".")+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	failure := s.failing(name, "", false)
	var in struct {
		PaginationToken     string
		ResourceTypeFilters []string
		TagFilters          []struct {
			Key    string
			Values []string
		}
	}
	switch err := json.NewDecoder(r.Body).Decode(&in); {
	case failure != nil:
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": failure.Code, "message": failure.Message})
		return
	case !isLetIn(r):
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": "UnrecognizedClientException", "message": "The security token included in the request is invalid."})
		return
	case name != "GetResources" || err != nil:
		writeJSON(w, http.StatusBadRequest, map[string]string{"__type": "ValidationException", "message": fmt.Sprint(name, ": ", err)})
		return
	}
	all := s.tagged()
	maps.DeleteFunc(all, func(_ string, r tagged) bool {
		if len(r.tags) == 0 || len(in.ResourceTypeFilters) > 0 && !slices.Contains(in.ResourceTypeFilters, "ec2:"+r.kind) && !slices.Contains(in.ResourceTypeFilters, "ec2") {
			return true
		}
		for _, f := range in.TagFilters {
			value, ok := r.tags[f.Key]
			if !ok || len(f.Values) > 0 && !slices.Contains(f.Values, value) {
				return true
			}
		}
		return false
	})
	ids := slices.Sorted(maps.Keys(all))
	if in.PaginationToken != "" {
		ids = ids[max(0, slices.Index(ids, in.PaginationToken)):]
	}
	next := ""
	if size := s.cfg.PageSize; size > 0 && len(ids) > size {
		ids, next = ids[:size], ids[size]
	}
	type tag struct{ Key, Value string }
	type mapping struct {
		ResourceARN string
		Tags        []tag
	}
	list := []mapping{}
	for _, id := range ids {
		m := mapping{ResourceARN: arn(all[id].kind, id)}
		for _, key := range slices.Sorted(maps.Keys(all[id].tags)) {
			m.Tags = append(m.Tags, tag{key, all[id].tags[key]})
		}
		list = append(list, m)
	}
	writeJSON(w, http.StatusOK, map[string]any{"PaginationToken": next, "ResourceTagMappingList": list})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone needs no answer
}
