package bmc

import (
	"regexp"
	"strings"
)

// Claim says whose a machine is. In an asset tag it is "duffy:BROKER.NODE", 35
// characters: what DCMI keeps, 63, leaves room for an operator's own tag.
type Claim struct {
	Broker string // the first 12 hex digits of the broker's id
	Node   string // the uid of the node: 16 hex digits
}

const (
	brokerDigits = 12
	nodeDigits   = 16
)

// claimForm takes the beginning of a claim for one, too: a tag is written in parts
// with IPMI, and that may have been cut short.
var claimForm = regexp.MustCompile(`(?:^|\s)duffy:(?:([0-9a-f]{12})(?:\.([0-9a-f]{0,16}))?|([0-9a-f]{0,11}))\s*$`)

// NewClaim gives the claim of a broker, whose id is a UUID, for a node.
func NewClaim(brokerID, nodeUID string) Claim {
	digits := strings.ToLower(strings.ReplaceAll(brokerID, "-", ""))
	return Claim{Broker: digits[:min(brokerDigits, len(digits))], Node: nodeUID}
}

// String gives the claim as it stands in a tag.
func (c Claim) String() string { return "duffy:" + c.Broker + "." + c.Node }

// Valid tells whether a tag with the claim would be understood.
func (c Claim) Valid() bool {
	_, got, ok := ParseTag(c.String())
	return ok && got == c && len(c.Broker) == brokerDigits && len(c.Node) == nodeDigits
}

// ParseTag gives what an operator has put into a tag, and the claim behind it, if
// there is one. Of one that was not written to its end, the claim has what is there.
func ParseTag(tag string) (own string, c Claim, claimed bool) {
	m := claimForm.FindStringSubmatch(tag)
	if m == nil {
		return strings.TrimSpace(tag), Claim{}, false
	}
	return strings.TrimSpace(strings.TrimSuffix(tag, m[0])), Claim{Broker: m[1] + m[3], Node: m[2]}, true
}

// Tag gives an operator's tag with the claim behind it.
func (c Claim) Tag(own string) string { return strings.TrimSpace(own + " " + c.String()) }
