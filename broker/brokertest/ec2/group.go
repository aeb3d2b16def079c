package ec2

import (
	"fmt"
	"net/http"
	"slices"
)

// Group is a security group.
type Group struct {
	ID, Name, Description, VPC string
	Ingress, Egress            []Permission
	Tags                       map[string]string
	standing                   bool // it came with the VPC
}

// Permission is one rule: ports of a protocol, from or to one range or group.
type Permission struct {
	Protocol, From, To string // ports are "" where the protocol has none
	Range              string // a CIDR of IPv4 or IPv6, or the id of a group
	About              string
}

//nolint:gochecknoglobals // a constant: nothing writes it
var everywhere = Permission{Protocol: "-1", Range: "0.0.0.0/0"}

// Groups gives all that clients have made.
func (s *Server) Groups() []Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Group
	for _, g := range s.groups {
		if !g.standing {
			all = append(all, *g)
		}
	}
	slices.SortFunc(all, func(a, b Group) int { return len(a.ID) - len(b.ID) })
	return all
}

// AddGroup makes a group that exists before a test begins, and gives its id.
func (s *Server) AddGroup(vpc string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.newID("sg")
	s.groups[id] = &Group{ID: id, Name: "existing", VPC: vpc, Egress: []Permission{everywhere}, standing: true}
	return id
}

func (s *Server) group(id string) (*Group, error) {
	if g := s.groups[id]; g != nil {
		return g, nil
	}
	return nil, &fault{"InvalidGroup.NotFound", fmt.Sprintf("The security group '%s' does not exist", id)}
}

func (s *Server) createSecurityGroup(_ *http.Request, p *params) ([]element, error) {
	g := &Group{
		ID: s.newID("sg"), Name: p.get("GroupName"), Description: p.get("GroupDescription"), VPC: p.get("VpcId"), Egress: []Permission{everywhere}, Tags: p.tagsFor("security-group"),
	}
	if g.Description == "" {
		return nil, &fault{"MissingParameter", "The request must contain the parameter GroupDescription"}
	}
	if g.VPC == "" {
		g.VPC = vpcs(s.cfg.Subnets)[0] // the default one
	}
	for _, other := range s.groups {
		if other.VPC == g.VPC && other.Name == g.Name {
			return nil, &fault{"InvalidGroup.Duplicate", fmt.Sprintf("The security group '%s' already exists for VPC '%s'", g.Name, g.VPC)}
		}
	}
	s.groups[g.ID] = g
	return []element{e("return", true), e("groupId", g.ID), tagSet(g.Tags)}, nil
}

func (s *Server) deleteSecurityGroup(_ *http.Request, p *params) ([]element, error) {
	g, err := s.group(p.get("GroupId"))
	if err != nil {
		return nil, err
	}
	for _, nic := range s.interfaces {
		if slices.Contains(nic.Groups, g.ID) {
			return nil, &fault{"DependencyViolation", fmt.Sprintf("resource %s has a dependent object", g.ID)}
		}
	}
	delete(s.groups, g.ID)
	return []element{e("return", true)}, nil
}

func (s *Server) describeSecurityGroups(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.groups, p, "GroupId", "InvalidGroup.NotFound", "The security group '%s' does not exist", func(g *Group) fieldsOf {
		return fieldsOf{"group-id": {g.ID}, "group-name": {g.Name}, "vpc-id": {g.VPC}}.tagged(g.Tags)
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("securityGroupInfo", ids, func(id string) []element {
		g := s.groups[id]
		return []element{
			e("groupId", g.ID), e("groupName", g.Name), e("groupDescription", g.Description), e("vpcId", g.VPC), e("ownerId", Account), tagSet(g.Tags),
			set("ipPermissions", g.Ingress, Permission.described), set("ipPermissionsEgress", g.Egress, Permission.described),
		}
	}), opt("nextToken", next)}, err
}

func (r Permission) described() []element {
	about := opt("description", r.About)
	to := e("ipRanges", e("item", e("cidrIp", r.Range), about))
	switch {
	case isGroup(r.Range):
		to = e("groups", e("item", e("groupId", r.Range), e("userId", Account), about))
	case isIPv6(r.Range):
		to = e("ipv6Ranges", e("item", e("cidrIpv6", r.Range), about))
	}
	return []element{e("ipProtocol", r.Protocol), opt("fromPort", r.From), opt("toPort", r.To), to}
}

func isGroup(text string) bool { return len(text) > 3 && text[:3] == "sg-" }

func isIPv6(text string) bool { return slices.Contains([]byte(text), ':') }

func (s *Server) describeSecurityGroupRules(_ *http.Request, p *params) ([]element, error) {
	type rule struct {
		Permission
		group string
		out   bool
	}
	all := map[string]rule{}
	for id, g := range s.groups {
		for out, rules := range map[bool][]Permission{false: g.Ingress, true: g.Egress} {
			for n, r := range rules {
				all[fmt.Sprintf("sgr-%s%t%d", id[3:], out, n)] = rule{r, id, out}
			}
		}
	}
	ids, err := sortedIDs(all, p, "SecurityGroupRuleId", "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", func(r rule) fieldsOf {
		return fieldsOf{"group-id": {r.group}}
	})
	return []element{set("securityGroupRuleSet", ids, func(id string) []element {
		r := all[id]
		return []element{e("securityGroupRuleId", id), e("groupId", r.group), e("isEgress", r.out), e("ipProtocol", r.Protocol), opt("fromPort", r.From), opt("toPort", r.To), e("cidrIpv4", r.Range)}
	})}, err
}

// permissions reads the rules of a call, one for each range or group.
func (p *params) permissions() []Permission {
	var all []Permission
	for _, rule := range p.list("IpPermissions") {
		r := Permission{Protocol: rule.get("IpProtocol"), From: rule.get("FromPort"), To: rule.get("ToPort")}
		if r.Protocol == "-1" {
			r.From, r.To = "", ""
		}
		for _, kind := range [][2]string{{"IpRanges", "CidrIp"}, {"Ipv6Ranges", "CidrIpv6"}, {"Groups", "GroupId"}} {
			for _, one := range rule.list(kind[0]) {
				r.Range, r.About = one.get(kind[1]), one.get("Description")
				all = append(all, r)
			}
		}
	}
	return all
}

// changeRules adds rules to a group, or takes them from it.
func changeRules(egress, revoke bool) action {
	return func(s *Server, _ *http.Request, p *params) ([]element, error) {
		g, err := s.group(p.get("GroupId"))
		if err != nil {
			return nil, err
		}
		rules := &g.Ingress
		if egress {
			rules = &g.Egress
		}
		for _, r := range p.permissions() {
			at := slices.IndexFunc(*rules, func(other Permission) bool {
				return other.Protocol == r.Protocol && other.From == r.From && other.To == r.To && other.Range == r.Range
			})
			switch {
			case revoke && at < 0:
				return nil, &fault{"InvalidPermission.NotFound", "The specified rule does not exist in this security group."}
			case revoke:
				*rules = slices.Delete(slices.Clone(*rules), at, at+1)
			case at >= 0:
				return nil, &fault{"InvalidPermission.Duplicate", "the specified rule already exists"}
			default:
				*rules = append(*rules, r)
			}
		}
		return []element{e("return", true)}, nil
	}
}
