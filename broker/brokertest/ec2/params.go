package ec2

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are the parameters of a call as a tree: Filter.1.Value.2=x is the text of
// at("Filter", "1", "Value", "2"). All methods work on nil, which has nothing.
type params struct {
	text     string
	children map[string]*params
}

func parseForm(form url.Values) *params {
	root := &params{}
	for name, values := range form {
		if len(values) == 0 {
			continue
		}
		p := root
		for step := range strings.SplitSeq(name, ".") {
			next := p.children[step]
			if next == nil {
				next = &params{}
				if p.children == nil {
					p.children = map[string]*params{}
				}
				p.children[step] = next
			}
			p = next
		}
		p.text = values[0]
	}
	return root
}

func (p *params) at(path ...string) *params {
	for _, step := range path {
		if p == nil {
			return nil
		}
		p = p.children[step]
	}
	return p
}

// get gives a text, "" where there is none.
func (p *params) get(path ...string) string {
	if p = p.at(path...); p != nil {
		return p.text
	}
	return ""
}

func (p *params) flag(path ...string) bool { return p.get(path...) == "true" }

func (p *params) number(path ...string) int {
	n, _ := strconv.Atoi(p.get(path...)) // 0 where it is none
	return n
}

// list gives the members of a list in their order.
func (p *params) list(path ...string) []*params {
	p = p.at(path...)
	if p == nil {
		return nil
	}
	var list []*params
	for _, key := range slices.SortedFunc(maps.Keys(p.children), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	}) {
		list = append(list, p.children[key])
	}
	return list
}

func (p *params) texts(path ...string) []string {
	var texts []string
	for _, member := range p.list(path...) {
		texts = append(texts, member.text)
	}
	return texts
}

// isEmpty tells whether nothing was given: clients send empty texts for nothing.
func (p *params) isEmpty() bool {
	if p == nil {
		return true
	}
	for _, child := range p.children {
		if !child.isEmpty() {
			return false
		}
	}
	return p.text == ""
}

// over gives the parameters of base with those of p in the place of its own.
func (p *params) over(base *params) *params {
	merged := &params{children: map[string]*params{}}
	for _, from := range []*params{base, p} {
		if from == nil {
			continue
		}
		for name, child := range from.children {
			if !child.isEmpty() {
				merged.children[name] = child
			}
		}
	}
	return merged
}

// tags reads a list of keys and values.
func (p *params) tags(path ...string) map[string]string {
	tags := map[string]string{}
	for _, tag := range p.list(path...) {
		tags[tag.get("Key")] = tag.get("Value")
	}
	return tags
}

// tagsFor gives the tags that a call has for one type of resource.
func (p *params) tagsFor(kind string) map[string]string {
	for _, spec := range p.list("TagSpecification") {
		if spec.get("ResourceType") == kind {
			return spec.tags("Tag")
		}
	}
	return map[string]string{}
}
