package ec2

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// element is one element of an answer.
type element struct {
	name  string
	parts []any // elements, lists of them, or one value
}

// e makes an element.
func e(name string, parts ...any) element { return element{name: name, parts: parts} }

// opt is an element that is left out where its text is empty.
func opt(name, text string) element {
	if text == "" {
		return element{}
	}
	return e(name, text)
}

// set is a list as EC2 writes it.
func set[T any](name string, list []T, item func(T) []element) element {
	items := []element{}
	for _, member := range list {
		items = append(items, element{name: "item", parts: []any{item(member)}})
	}
	return e(name, items)
}

// texts is a set of plain texts.
func texts(name string, list ...string) element {
	items := []element{}
	for _, text := range list {
		items = append(items, e("item", text))
	}
	return e(name, items)
}

func tagSet(tags map[string]string) element {
	return set("tagSet", slices.Sorted(maps.Keys(tags)), func(key string) []element {
		return []element{e("key", key), e("value", tags[key])}
	})
}

func (x element) write(b *strings.Builder) {
	if x.name == "" {
		return
	}
	b.WriteString("<" + x.name + ">")
	for _, part := range x.parts {
		switch v := part.(type) {
		case element:
			v.write(b)
		case []element:
			for _, child := range v {
				child.write(b)
			}
		case time.Time:
			b.WriteString(v.UTC().Format("2006-01-02T15:04:05.000Z"))
		default:
			_ = xml.EscapeText(b, []byte(fmt.Sprint(v))) // a builder takes everything
		}
	}
	b.WriteString("</" + x.name + ">")
}

// described gives parameters of a launch template as the API shows them.
func (p *params) described() []element {
	lists := map[string][2]string{ // as they are called in a request: in an answer
		"BlockDeviceMapping": {"blockDeviceMappingSet", "item"},
		"NetworkInterface":   {"networkInterfaceSet", "item"},
		"SecurityGroupId":    {"securityGroupIdSet", "item"},
		"TagSpecification":   {"tagSpecificationSet", "item"},
		"Tag":                {"tagSet", "item"},
	}
	var out []element
	for _, name := range slices.Sorted(maps.Keys(p.children)) {
		child := p.children[name]
		called, isList := lists[name]
		if isList && name == "SecurityGroupId" && p.at("DeviceIndex") != nil {
			called = [2]string{"groupSet", "groupId"}
		}
		switch {
		case isList:
			var items []element
			for _, member := range child.list() {
				if member.children == nil {
					items = append(items, e(called[1], member.text))
				} else {
					items = append(items, e(called[1], member.described()))
				}
			}
			out = append(out, e(called[0], items))
		case child.children != nil:
			out = append(out, e(lower(name), child.described()))
		default:
			out = append(out, e(lower(name), child.text))
		}
	}
	return out
}

func lower(name string) string {
	letters := []rune(name)
	letters[0] = unicode.ToLower(letters[0])
	return string(letters)
}
