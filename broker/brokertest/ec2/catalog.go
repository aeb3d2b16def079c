package ec2

import (
	"net/http"
	"slices"
)

// Image is an AMI.
type Image struct {
	ID, Name, Owner string
	Architecture    string // "x86_64" or "arm64"
	Created         string // RFC 3339
	RootDevice      string
	Disks           []Disk // the root device among them
}

// Disk is a volume that instances of an image get.
type Disk struct {
	Device   string
	Size     int // GiB
	DeleteOn bool
}

// Type is an instance type.
type Type struct {
	Name          string
	Architectures []string
	Metal         bool
	OnDemandOnly  bool
	NotIn         string // a zone without it
}

// Subnet is a subnet.
type Subnet struct {
	ID, VPC, Zone string
	Default       bool // of the zone, in the default VPC
}

// Images gives two images of CentOS for each architecture, an older and a newer one,
// and one whose data disk would outlive its instance.
func Images() []Image {
	root := []Disk{{Device: "/dev/sda1", Size: 10, DeleteOn: true}}
	return []Image{
		{ID: "ami-00000000000000861", Name: "CentOS Stream 9 x86_64 20260101", Owner: "125523088429", Architecture: "x86_64", Created: "2026-01-01T00:00:00.000Z", RootDevice: "/dev/sda1", Disks: root},
		{ID: "ami-00000000000000862", Name: "CentOS Stream 9 x86_64 20260201", Owner: "125523088429", Architecture: "x86_64", Created: "2026-02-01T00:00:00.000Z", RootDevice: "/dev/sda1", Disks: root},
		{ID: "ami-00000000000000641", Name: "CentOS Stream 9 aarch64 20260101", Owner: "125523088429", Architecture: "arm64", Created: "2026-01-01T00:00:00.000Z", RootDevice: "/dev/sda1", Disks: root},
		{ID: "ami-00000000000000642", Name: "CentOS Stream 9 aarch64 20260201", Owner: "125523088429", Architecture: "arm64", Created: "2026-02-01T00:00:00.000Z", RootDevice: "/dev/sda1", Disks: root},
		{
			ID: "ami-000000000000da7a0", Name: "With a data disk", Owner: Account, Architecture: "x86_64", Created: "2026-01-01T00:00:00.000Z", RootDevice: "/dev/sda1",
			Disks: append(slices.Clone(root), Disk{Device: "/dev/sdb", Size: 20}),
		},
	}
}

// Types gives some instance types.
func Types() []Type {
	return []Type{
		{Name: "t3.micro", Architectures: []string{"x86_64"}},
		{Name: "c5.large", Architectures: []string{"x86_64"}},
		{Name: "c5n.metal", Architectures: []string{"x86_64"}, Metal: true},
		{Name: "c6g.large", Architectures: []string{"arm64"}},
		{Name: "c6g.metal", Architectures: []string{"arm64"}, Metal: true},
		{Name: "u-6tb1.metal", Architectures: []string{"x86_64"}, Metal: true, OnDemandOnly: true},
		{Name: "p5.48xlarge", Architectures: []string{"x86_64"}, NotIn: "us-east-1a"},
	}
}

// Subnets gives one of each of three zones in the default VPC, and one elsewhere.
func Subnets() []Subnet {
	return []Subnet{
		{ID: "subnet-0000000000000000a", VPC: "vpc-00000000000000001", Zone: "us-east-1a", Default: true},
		{ID: "subnet-0000000000000000b", VPC: "vpc-00000000000000001", Zone: "us-east-1b", Default: true},
		{ID: "subnet-0000000000000000c", VPC: "vpc-00000000000000001", Zone: "us-east-1c", Default: true},
		{ID: "subnet-0000000000000000d", VPC: "vpc-00000000000000002", Zone: "us-east-1a"},
	}
}

// AddImage adds an image, such as a newer one.
func (s *Server) AddImage(i Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Images = append(slices.Clone(s.cfg.Images), i)
}

func vpcs(subnets []Subnet) []string {
	var all []string
	for _, n := range subnets {
		if !slices.Contains(all, n.VPC) {
			all = append(all, n.VPC)
		}
	}
	return all
}

func zones(subnets []Subnet) []string {
	var all []string
	for _, n := range subnets {
		if !slices.Contains(all, n.Zone) {
			all = append(all, n.Zone)
		}
	}
	return all
}

// known gives what a list has under a name.
func known[T any](all []T, id func(T) string, name string) (T, bool) {
	at := slices.IndexFunc(all, func(one T) bool { return id(one) == name })
	if at < 0 {
		var none T
		return none, false
	}
	return all[at], true
}

func (s *Server) image(id string) (Image, bool) {
	return known(s.cfg.Images, func(i Image) string { return i.ID }, id)
}

func (s *Server) kind(name string) (Type, bool) {
	return known(s.cfg.Types, func(t Type) string { return t.Name }, name)
}

func (s *Server) subnet(id string) (Subnet, bool) {
	return known(s.cfg.Subnets, func(n Subnet) string { return n.ID }, id)
}

func byID[T any](all []T, id func(T) string) map[string]T {
	m := map[string]T{}
	for _, one := range all {
		m[id(one)] = one
	}
	return m
}

func (s *Server) describeImages(_ *http.Request, p *params) ([]element, error) {
	all := byID(s.cfg.Images, func(i Image) string { return i.ID })
	ids, err := sortedIDs(all, p, "ImageId", "InvalidAMIID.NotFound", "The image id '[%s]' does not exist", func(i Image) fieldsOf {
		return fieldsOf{
			"name": {i.Name}, "architecture": {i.Architecture}, "state": {"available"}, "root-device-type": {"ebs"}, "virtualization-type": {"hvm"},
			"image-id": {i.ID}, "owner-id": {i.Owner}, "image-type": {"machine"}, "is-public": {"true"},
		}.tagged(nil)
	})
	owners := p.texts("Owner")
	ids = slices.DeleteFunc(ids, func(id string) bool {
		owner := all[id].Owner
		return len(owners) > 0 && !slices.Contains(owners, owner) && (owner != Account || !slices.Contains(owners, "self"))
	})
	return []element{set("imagesSet", ids, func(id string) []element {
		i := all[id]
		return []element{
			e("imageId", i.ID), e("name", i.Name), e("imageOwnerId", i.Owner), e("imageLocation", i.Owner+"/"+i.Name), e("architecture", i.Architecture), e("creationDate", i.Created),
			e("rootDeviceName", i.RootDevice), e("rootDeviceType", "ebs"), e("virtualizationType", "hvm"), e("imageState", "available"), e("isPublic", true), e("imageType", "machine"),
			e("hypervisor", "xen"), e("enaSupport", true),
			set("blockDeviceMapping", i.Disks, func(d Disk) []element {
				return []element{e("deviceName", d.Device), e("ebs", e("volumeSize", d.Size), e("deleteOnTermination", d.DeleteOn), e("volumeType", "gp2"), e("encrypted", false), e("snapshotId", "snap-0"+i.ID[5:]))}
			}),
		}
	})}, err
}

func (s *Server) describeInstanceTypes(_ *http.Request, p *params) ([]element, error) {
	all := byID(s.cfg.Types, func(t Type) string { return t.Name })
	ids, err := sortedIDs(all, p, "InstanceType", "InvalidInstanceType", "The following supplied instance types do not exist: [%s]", func(t Type) fieldsOf {
		return fieldsOf{"instance-type": {t.Name}, "processor-info.supported-architecture": t.Architectures}
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("instanceTypeSet", ids, func(id string) []element {
		t := all[id]
		uses := []string{"on-demand"}
		if !t.OnDemandOnly {
			uses = append(uses, "spot")
		}
		return []element{
			e("instanceType", t.Name), e("bareMetal", t.Metal), e("currentGeneration", true), texts("supportedUsageClasses", uses...), texts("supportedRootDeviceTypes", "ebs"),
			texts("supportedVirtualizationTypes", "hvm"), e("burstablePerformanceSupported", t.Name[0] == 't'), e("hypervisor", "nitro"), e("instanceStorageSupported", false),
			e("processorInfo", texts("supportedArchitectures", t.Architectures...), e("sustainedClockSpeedInGhz", 3.1)),
			e("vCpuInfo", e("defaultVCpus", 2), e("defaultCores", 1), e("defaultThreadsPerCore", 2)),
			e("memoryInfo", e("sizeInMiB", 4096)),
			e("ebsInfo", e("ebsOptimizedSupport", "default"), e("encryptionSupport", "supported"), e("nvmeSupport", "required")),
			e("networkInfo", e("networkPerformance", "Up to 10 Gigabit"), e("maximumNetworkInterfaces", 3), e("ipv4AddressesPerInterface", 10), e("ipv6Supported", true), e("enaSupport", "required")),
			e("placementGroupInfo", texts("supportedStrategies", "cluster", "partition", "spread")),
		}
	}), opt("nextToken", next)}, err
}

func (s *Server) describeInstanceTypeOfferings(_ *http.Request, p *params) ([]element, error) {
	type offer struct{ kind, zone string }
	all := map[string]offer{}
	for _, t := range s.cfg.Types {
		for _, zone := range zones(s.cfg.Subnets) {
			if t.NotIn != zone {
				all[t.Name+" "+zone] = offer{t.Name, zone}
			}
		}
	}
	if p.get("LocationType") != "availability-zone" {
		return nil, &fault{"InvalidParameterValue", "only the location type availability-zone is known here"}
	}
	ids, err := sortedIDs(all, p, "", "", "", func(o offer) fieldsOf { return fieldsOf{"instance-type": {o.kind}, "location": {o.zone}} })
	return []element{set("instanceTypeOfferingSet", ids, func(id string) []element {
		return []element{e("instanceType", all[id].kind), e("location", all[id].zone), e("locationType", "availability-zone")}
	})}, err
}

func (s *Server) describeSubnets(_ *http.Request, p *params) ([]element, error) {
	all := byID(s.cfg.Subnets, func(n Subnet) string { return n.ID })
	ids, err := sortedIDs(all, p, "SubnetId", "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", func(n Subnet) fieldsOf {
		return fieldsOf{
			"subnet-id": {n.ID}, "vpc-id": {n.VPC}, "availability-zone": {n.Zone}, "availabilityZone": {n.Zone}, "default-for-az": {yes(n.Default)}, "defaultForAz": {yes(n.Default)}, "state": {"available"},
		}.tagged(nil)
	})
	return []element{set("subnetSet", ids, func(id string) []element {
		n := all[id]
		return []element{
			e("subnetId", n.ID), e("vpcId", n.VPC), e("availabilityZone", n.Zone), e("state", "available"), e("defaultForAz", n.Default), e("mapPublicIpOnLaunch", n.Default),
			e("cidrBlock", "127.0.0.0/8"), e("availableIpAddressCount", 4000), e("ownerId", Account), e("subnetArn", arn("subnet", n.ID)),
		}
	})}, err
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func (s *Server) describeVpcs(_ *http.Request, p *params) ([]element, error) {
	all := byID(vpcs(s.cfg.Subnets), func(id string) string { return id })
	isDefault := func(id string) bool {
		return slices.ContainsFunc(s.cfg.Subnets, func(n Subnet) bool { return n.VPC == id && n.Default })
	}
	ids, err := sortedIDs(all, p, "VpcId", "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", func(id string) fieldsOf {
		return fieldsOf{"vpc-id": {id}, "isDefault": {yes(isDefault(id))}, "is-default": {yes(isDefault(id))}, "state": {"available"}}.tagged(nil)
	})
	return []element{set("vpcSet", ids, func(id string) []element {
		return []element{e("vpcId", id), e("state", "available"), e("cidrBlock", "127.0.0.0/8"), e("isDefault", isDefault(id)), e("ownerId", Account), e("instanceTenancy", "default")}
	})}, err
}

func (s *Server) describeAvailabilityZones(_ *http.Request, p *params) ([]element, error) {
	all := byID(zones(s.cfg.Subnets), func(z string) string { return z })
	ids, err := sortedIDs(all, p, "ZoneName", "InvalidParameterValue", "Invalid availability zone: [%s]", func(z string) fieldsOf {
		return fieldsOf{"zone-name": {z}, "state": {"available"}, "region-name": {Region}, "opt-in-status": {"opt-in-not-required"}}
	})
	return []element{set("availabilityZoneInfo", ids, func(z string) []element {
		return []element{e("zoneName", z), e("zoneState", "available"), e("regionName", Region), e("zoneType", "availability-zone"), e("optInStatus", "opt-in-not-required"), e("zoneId", "use1-az"+z[len(z)-1:])}
	})}, err
}

// describeKeyPairs knows none: nodes trust what their user data says.
func (s *Server) describeKeyPairs(_ *http.Request, p *params) ([]element, error) {
	_, err := sortedIDs(map[string]string{}, p, "KeyName", "InvalidKeyPair.NotFound", "The key pair '%s' does not exist", func(string) fieldsOf { return nil })
	return []element{e("keySet")}, err
}

func (s *Server) describeAccountAttributes(_ *http.Request, p *params) ([]element, error) {
	return []element{set("accountAttributeSet", p.texts("AttributeName"), func(name string) []element {
		value := map[string]string{"supported-platforms": "VPC", "default-vpc": "none", "max-instances": "20"}[name]
		return []element{e("attributeName", name), set("attributeValueSet", []string{value}, func(v string) []element { return []element{e("attributeValue", v)} })}
	})}, nil
}

func arn(kind, id string) string {
	return "arn:aws:ec2:" + Region + ":" + Account + ":" + kind + "/" + id
}
