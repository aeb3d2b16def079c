package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker"
)

// hostField is a setting of a host, with what reads it into one.
type hostField struct {
	name, kind, doc string
	schema          schema
	otherwise       []any
	parse           func(*broker.Host, cty.Value) complaint
}

// hostFields are all of them, in hosts and in host blocks alike.
func hostFields() []hostField {
	return []hostField{
		{"hostname", textForm.kind, "Its host name.", textForm.schema, []any{"its name"}, func(h *broker.Host, v cty.Value) (wrong complaint) {
			h.Hostname, wrong = text(v)
			return wrong
		}},
		{"ipaddr", "an IPv4 or IPv6 address", "Its address.", textForm.schema, []any{needed{}}, func(h *broker.Host, v cty.Value) (wrong complaint) {
			h.Address, wrong = text(v)
			return wrong
		}},
		{
			"mac", "a MAC address, such as `\"52:54:00:12:34:56\"`", "The address of the network card that it boots from.", textForm.schema, nil,
			func(h *broker.Host, v cty.Value) (wrong complaint) {
				h.MAC, wrong = macAddress(v)
				return wrong
			},
		},
		{
			"bmc", "`{ address = ADDRESS, kind = KIND }`", "How its power is switched, for the module: `kind` is what that knows, such as `\"redfish\"` or `\"ipmi\"`.",
			schema{"type": "object", "properties": schema{"address": schema{"type": "string"}, "kind": schema{"type": "string"}}, "required": []string{"address"}, "additionalProperties": false},
			nil,
			func(h *broker.Host, v cty.Value) (wrong complaint) {
				h.BMC, wrong = bmcOf(v)
				return wrong
			},
		},
		{
			"credentials", "an object of references, `\"file:PATH\"` or `\"env:NAME\"`",
			"Variables of the environment of the runs that make and destroy nodes on it, as `credentials` of a pool; these come first.",
			schema{"type": "object", "additionalProperties": schema{"type": "string", "pattern": "^(file:/|env:)"}},
			nil,
			func(h *broker.Host, v cty.Value) (wrong complaint) {
				h.Credentials, wrong = credentialsOf(v)
				return wrong
			},
		},
		{
			"attributes", "an object of texts, numbers and booleans", "What pools choose by, and modules are told, such as `arch` and `site`.",
			schema{"type": "object"},
			nil,
			func(h *broker.Host, v cty.Value) (wrong complaint) {
				h.Data, wrong = attributesOf(v)
				return wrong
			},
		},
		{"comment", textForm.kind, "For people.", textForm.schema, nil, func(h *broker.Host, v cty.Value) (wrong complaint) {
			h.Comment, wrong = text(v)
			return wrong
		}},
	}
}

// placedHost is a host of the file, and where it stands.
type placedHost struct {
	broker.Host
	at hcl.Range
}

// readInventories reads the inventory blocks, also those whose name is wrong or
// taken. whole is false if hosts are missing for a mistake of their own.
func (l *loader) readInventories(blocks []*hclsyntax.Block) (inventories []broker.Inventory, whole bool) {
	before := len(l.diags)
	first := make(map[string]hcl.Range)
	taken := make(map[string]placedHost) // by what no two hosts may have in common
	for _, block := range blocks {
		l.checkName(block)
		b := l.open(block.Body, "an inventory")
		hosts := readHosts(b)
		for _, inner := range b.blocks("host", "One host.") {
			hosts = append(hosts, l.host(inner)...)
		}
		b.finish()
		names := make(map[string]hcl.Range)
		inventory := broker.Inventory{Hosts: []broker.Host{}}
		for _, h := range hosts {
			if other, twice := names[h.Name]; twice {
				l.report(h.at, "Duplicate host", "There is a host %q already, at %s. Give this one another name.", h.Name, place(other))
				continue
			}
			names[h.Name] = h.at
			l.checkShared(h, taken)
			inventory.Hosts = append(inventory.Hosts, h.Host)
		}
		if len(block.Labels) == 0 {
			continue
		}
		name, at := block.Labels[0], block.LabelRanges[0]
		if other, twice := first[name]; twice {
			l.report(at, "Duplicate inventory", "There is an inventory %q already, at %s. Give this one another name.", name, place(other))
			continue
		}
		if name == broker.APIInventory {
			l.report(at, "Invalid name", "The inventory %q is that of the hosts that are posted to the API. Give this one another name.", name)
		}
		first[name], inventory.Name = at, name
		l.inventories = append(l.inventories, inventory)
	}
	return l.inventories, len(l.diags) == before
}

// host reads a host block: one host, or none where it is wrong.
func (l *loader) host(block *hclsyntax.Block) []placedHost {
	l.checkName(block)
	b := l.open(block.Body, "a host")
	h := broker.Host{Reusable: true}
	good, addressed := len(block.Labels) > 0, false
	for _, f := range hostFields() {
		s := read(b, f.name, form[struct{}]{func(v cty.Value) (none struct{}, wrong complaint) {
			return none, f.parse(&h, v)
		}, f.kind, f.schema}, f.doc, f.otherwise...)
		good = good && !s.bad
		addressed = addressed || f.name == "ipaddr" && s.set
	}
	meant := b.finish()
	if !addressed && !slices.Contains(meant, "ipaddr") && !l.broken(block.Range()) {
		l.report(block.DefRange(), "Missing ipaddr", `A host needs its address, such as ipaddr = "192.0.2.1".`)
	}
	if !good || !addressed {
		return nil
	}
	h.Name = block.Labels[0]
	return l.checkHost(h, block.LabelRanges[0])
}

// readHosts reads the hosts that an expression gives.
func readHosts(b *block) []placedHost {
	b.describe("hosts", "an object of objects by name, or a list of objects with `name`", schema{"type": []string{"object", "array"}},
		"More hosts, with the same settings as in a block: what an inventory kept elsewhere says, such as `yamldecode(file(\"rack1.yaml\"))`.", nil)
	return readExpression(b, "hosts", func(v cty.Value, e hclsyntax.Expression) ([]placedHost, bool) {
		return b.l.hosts(v, e.Range())
	}).or(nil)
}

func (l *loader) hosts(v cty.Value, at hcl.Range) (hosts []placedHost, good bool) {
	kind := v.Type()
	named := kind.IsObjectType() || kind.IsMapType()
	if !named && !kind.IsTupleType() && !kind.IsListType() {
		l.report(at, "Invalid hosts", "hosts %s", mustBe("an object of objects by name, or a list of objects with name", v))
		return nil, false
	}
	good = true
	number := 0
	for it := v.ElementIterator(); it.Next(); {
		number++
		key, element := it.Element()
		h, wrong := hostOf(element, named)
		title := fmt.Sprintf("number %d", number)
		if named {
			h.Name = key.AsString()
		}
		if h.Name != "" {
			title = fmt.Sprintf("%q", h.Name)
		}
		switch {
		case wrong != "":
			l.report(at, "Invalid hosts", "Host %s: %s", title, wrong)
			if name, _, _ := strings.Cut(string(wrong), " "); mayHoldSecret(name, element) {
				l.hide()
			}
			good = false
		case !validName(h.Name):
			l.report(at, "Invalid hosts", "%q can't be the name of a host. %s", h.Name, nameRule)
			good = false
		default:
			checked := l.checkHost(h, at)
			good = good && checked != nil
			hosts = append(hosts, checked...)
		}
	}
	return hosts, good
}

// hostOf reads a host from an object.
func hostOf(v cty.Value, named bool) (broker.Host, complaint) {
	h := broker.Host{Reusable: true}
	if v.IsNull() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return h, "it must be an object."
	}
	members := v.AsValueMap()
	allowed := []string{}
	if !named {
		allowed = append(allowed, "name")
		name, ok := members["name"]
		if !ok || name.IsNull() {
			return h, "it has no name."
		}
		var wrong complaint
		if h.Name, wrong = text(name); wrong != "" {
			return h, "name " + wrong
		}
	}
	for _, f := range hostFields() {
		allowed = append(allowed, f.name)
		value, ok := members[f.name]
		if !ok || value.IsNull() {
			continue
		}
		if wrong := f.parse(&h, value); wrong != "" {
			return h, complaint(f.name + " " + string(wrong))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(allowed, name) {
			continue
		}
		says := didYouMean(name, allowed)
		if says == "" {
			says = "A host takes " + list(allowed) + ". What pools choose by goes into attributes."
		}
		return h, complaint(fmt.Sprintf("it takes no %q. %s", name, says))
	}
	if h.Address == "" {
		return h, "it has no ipaddr."
	}
	return h, ""
}

// checkHost checks a host for what the broker would refuse.
func (l *loader) checkHost(h broker.Host, at hcl.Range) []placedHost {
	if h.Hostname == "" {
		h.Hostname = h.Name
	}
	if h.Data == nil {
		h.Data = json.RawMessage("{}")
	}
	checked, err := broker.NewHost(h, time.Time{})
	if err != nil {
		l.report(at, "Invalid host", "Host %q: %s.", h.Name, broker.MessageOf(err))
		return nil
	}
	return []placedHost{{checked, at}}
}

// checkShared reports what another host has, too.
func (l *loader) checkShared(h placedHost, taken map[string]placedHost) {
	own := map[string]string{"host name": strings.ToLower(h.Hostname), "ipaddr": h.Address, "mac": h.MAC}
	for _, what := range []string{"host name", "ipaddr", "mac"} {
		if own[what] == "" {
			continue
		}
		key := what + " " + own[what]
		if other, twice := taken[key]; twice {
			l.report(h.at, "Duplicate host", "Host %q has the %s %s, as host %q at %s has. A machine can stand here once.", h.Name, what, own[what], other.Name, place(other.at))
			return
		}
		taken[key] = h
	}
}

// checkSelectors reports settings that name an inventory that there is not, or
// choose hosts of one so that none is left. whole: no host is missing for a mistake.
func (l *loader) checkSelectors(inventories []broker.Inventory, whole bool, layers []*layer) {
	names := []string{broker.APIInventory}
	byName := make(map[string]broker.Inventory)
	for _, i := range inventories {
		names, byName[i.Name] = append(names, i.Name), i
	}
	for _, x := range layers {
		s := x.inventory.or(broker.HostSelector{})
		i, known := byName[s.Name]
		hint := didYouMean(s.Name, names)
		switch {
		case !s.Draws() || s.Name == broker.APIInventory:
			continue
		case known && (len(i.Hosts) == 0 || !whole):
			continue
		case known:
			matches := slices.ContainsFunc(i.Hosts, func(h broker.Host) bool {
				h.Inventory = i.Name
				return s.Selects(h)
			})
			if !matches {
				l.within(x.each, func() {
					l.report(x.inventory.at, "No host", "No host of the inventory %q has these attributes, so no node could ever be made. Its attributes are %s.", s.Name, attributeNames(i))
				})
			}
			continue
		case hint == "" && len(inventories) == 0:
			hint = fmt.Sprintf("Write inventory %q { ... }, or remove this line.", s.Name)
		case hint == "":
			hint = "The inventories are " + list(names) + "."
		}
		l.within(x.each, func() { l.report(x.inventory.at, "Unknown inventory", "There is no inventory %q. %s", s.Name, hint) })
	}
}

// attributeNames lists what the hosts of an inventory have.
func attributeNames(i broker.Inventory) string {
	all := make(map[string]bool)
	for _, h := range i.Hosts {
		for name, value := range h.Attributes {
			all[name+" = "+value] = true
		}
	}
	found := slices.Sorted(maps.Keys(all))
	if len(found) > 12 {
		found = append(found[:12], "more")
	}
	if len(found) == 0 {
		return "none"
	}
	return list(found)
}

// hostSelector parses on which hosts a pool makes its nodes.
func hostSelector(v cty.Value) (s broker.HostSelector, wrong complaint) {
	form := mustBe(`the name of an inventory, or { name = "NAME", where = { arch = "x86_64" } }`, v)
	if v.Type() == cty.String {
		s.Name = v.AsString()
		return s, ""
	}
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return s, form
	}
	members := v.AsValueMap()
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name != "name" && name != "where" {
			return s, complaint(fmt.Sprintf("takes name and where, not %q.", name))
		}
	}
	name, ok := members["name"]
	if !ok || name.IsNull() {
		return s, form
	}
	if s.Name, wrong = text(name); wrong != "" {
		return s, "has a name that " + wrong
	}
	if where, ok := members["where"]; ok && !where.IsNull() {
		if s.Where, wrong = texts(where); wrong != "" {
			return s, `has a where that must be an object of attributes, such as { arch = "x86_64" }.`
		}
	}
	return s, ""
}

// macAddress parses the address of a network card, in the one form in which they
// are compared.
func macAddress(v cty.Value) (string, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	mac, err := net.ParseMAC(s)
	if err != nil {
		return "", complaint(fmt.Sprintf(`must be a MAC address such as "52:54:00:12:34:56", not %q.`, s))
	}
	return mac.String(), ""
}

// bmcOf parses how the power of a host is switched.
func bmcOf(v cty.Value) (*broker.BMC, complaint) {
	members, wrong := texts(v)
	if wrong != "" {
		return nil, `must be an object of texts, such as { address = "192.0.2.9", kind = "redfish" }.`
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name != "address" && name != "kind" {
			return nil, complaint(fmt.Sprintf("takes address and kind, not %q. Names and passwords go into credentials, as references.", name))
		}
	}
	switch address := members["address"]; {
	case address == "":
		return nil, "has no address."
	case strings.Contains(address, "@"): // others see the address
		return nil, "has a user in its address. Names and passwords go into credentials, as references."
	}
	return &broker.BMC{Address: members["address"], Kind: members["kind"]}, ""
}

// attributesOf parses what hosts are chosen by, as JSON with sorted names.
func attributesOf(v cty.Value) (json.RawMessage, complaint) {
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return nil, mustBe("an object, such as { arch = \"x86_64\" }", v)
	}
	object := make(map[string]json.RawMessage)
	for name, value := range v.AsValueMap() {
		if value.IsNull() {
			continue
		}
		if !value.Type().IsPrimitiveType() {
			return nil, complaint(fmt.Sprintf("has %s, which is no text, number or boolean.", name))
		}
		src, err := ctyjson.Marshal(value, value.Type())
		if err != nil {
			return nil, complaint(fmt.Sprintf("has %s, which can't be written as JSON: %s.", name, err))
		}
		object[name] = src
	}
	src, err := json.Marshal(object)
	if err != nil {
		return nil, complaint(fmt.Sprintf("can't be written as JSON: %s.", err))
	}
	return src, ""
}
