package ec2

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Instance is one that was run.
type Instance struct {
	ID      string
	State   string // pending, running, terminated
	Reason  string // why it was terminated by itself: a code
	Type    string
	Image   string
	Subnet  string
	Zone    string
	VPC     string
	Private string // addresses; "" while pending
	Public  string
	Groups  []string // security groups
	Tags    map[string]string
	Profile string // IAM instance profile
	// UserData is decoded.
	UserData []byte
	Spot     string // the id of its spot request, "" on demand
	// Tokens is "required" where only IMDSv2 answers.
	Tokens      string
	HopLimit    int
	OnShutdown  string // what a shutdown from inside does: stop or terminate
	Credits     string // of burstable types: standard or unlimited
	Launched    time.Time
	clientToken string
	noCheck     bool // of source and destination
	protected   bool
	booted      chan struct{} // closed once Boot has returned
	hasBooted   bool
}

// Volume is an EBS volume.
type Volume struct {
	ID, Instance, Device string // no instance: nothing uses it
	Type, Zone, Key      string
	Size, Iops, Rate     int
	Encrypted, DeleteOn  bool
	Tags                 map[string]string
	snapshot             string
}

// Interface is a network interface.
type Interface struct {
	ID, Instance, Subnet, VPC, Zone string
	Groups                          []string
	Private, Public                 string
	WithPublic, DeleteOn            bool
	Tags                            map[string]string
}

type spotRequest struct {
	id, instance, state, price, kind string
	tags                             map[string]string
}

// Instances gives all, terminated ones too, oldest first.
func (s *Server) Instances() []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Instance
	for _, id := range slices.Sorted(maps.Keys(s.instances)) {
		i := *s.instances[id]
		i.State = s.state(&i)
		i.Tags, i.Groups = maps.Clone(i.Tags), slices.Clone(i.Groups)
		all = append(all, i)
	}
	return all
}

// Running gives those that are not terminated, oldest first.
func (s *Server) Running() []Instance {
	return slices.DeleteFunc(s.Instances(), func(i Instance) bool { return i.State == "terminated" })
}

// Volumes gives all that exist, oldest first.
func (s *Server) Volumes() []Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Volume
	for _, id := range slices.Sorted(maps.Keys(s.volumes)) {
		all = append(all, *s.volumes[id])
	}
	return all
}

// Interfaces gives all that exist, oldest first.
func (s *Server) Interfaces() []Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Interface
	for _, id := range slices.Sorted(maps.Keys(s.interfaces)) {
		all = append(all, *s.interfaces[id])
	}
	return all
}

func (s *Server) state(i *Instance) string {
	if i.State == "running" && time.Since(i.Launched) < s.cfg.Pending {
		return "pending"
	}
	return i.State
}

// resolve gives the parameters of RunInstances with those of its launch template.
func (s *Server) resolve(p *params) (*params, error) {
	from := p.at("LaunchTemplate")
	if from.isEmpty() {
		return p, nil
	}
	t, err := s.template(from.get("LaunchTemplateId"), from.get("LaunchTemplateName"))
	if err != nil {
		return nil, err
	}
	n, err := t.version(from.get("Version"))
	if err != nil {
		return nil, err
	}
	return p.over(t.versions[n-1].data), nil
}

// placed tells where a RunInstances would put its instance, and whether it is spot.
func (s *Server) placed(p *params) (zone string, spot bool) {
	p, err := s.resolve(p)
	if err != nil {
		return "", false
	}
	n, _ := s.place(p)
	return n.Zone, p.get("InstanceMarketOptions", "MarketType") == "spot"
}

// place finds the subnet: the one that is asked for, else the default one of the zone.
func (s *Server) place(p *params) (Subnet, error) {
	id := p.get("SubnetId")
	if nics := p.list("NetworkInterface"); len(nics) > 0 {
		id = nics[0].get("SubnetId")
	}
	zone := p.get("Placement", "AvailabilityZone")
	if id != "" {
		n, ok := s.subnet(id)
		if !ok {
			return n, &fault{"InvalidSubnetID.NotFound", fmt.Sprintf("The subnet ID '%s' does not exist", id)}
		}
		if zone != "" && zone != n.Zone {
			return n, &fault{"InvalidParameterValue", fmt.Sprintf("The availability zone '%s' is not that of the subnet '%s'", zone, id)}
		}
		return n, nil
	}
	for _, n := range s.cfg.Subnets {
		if n.Default && (zone == "" || zone == n.Zone) {
			return n, nil
		}
	}
	return Subnet{}, &fault{"InvalidParameterValue", fmt.Sprintf("Invalid availability zone: [%s]", zone)}
}

func (s *Server) runInstances(r *http.Request, p *params) ([]element, error) {
	token := p.get("ClientToken")
	for _, i := range s.instances {
		if token != "" && i.clientToken == token {
			s.await(i)
			return s.reservation(i), nil
		}
	}
	p, err := s.resolve(p)
	if err != nil {
		return nil, err
	}
	if p.get("MinCount") != "1" || p.get("MaxCount") != "1" {
		return nil, &fault{"InvalidParameterValue", "this stand-in runs one instance a call"}
	}
	image, kind, subnet, err := s.checkRun(p)
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(p.get("UserData"))
	if err != nil {
		return nil, &fault{"InvalidUserData.Malformed", "Invalid BASE64 encoding of user data."}
	}
	if len(data) > 16384 {
		return nil, &fault{"InvalidParameterValue", "User data is limited to 16384 bytes"}
	}
	i := &Instance{
		ID: s.newID("i"), State: "running", Type: kind.Name, Image: image.ID, Subnet: subnet.ID, Zone: subnet.Zone, VPC: subnet.VPC, UserData: data,
		Tags: p.tagsFor("instance"), Profile: p.get("IamInstanceProfile", "Name"), Tokens: p.get("MetadataOptions", "HttpTokens"), HopLimit: max(1, p.number("MetadataOptions", "HttpPutResponseHopLimit")),
		OnShutdown: p.get("InstanceInitiatedShutdownBehavior"), Credits: p.get("CreditSpecification", "CpuCredits"), Launched: time.Now(), clientToken: token, booted: make(chan struct{}),
		protected: p.flag("DisableApiTermination"),
	}
	if i.Tokens == "" {
		i.Tokens = "optional"
	}
	if i.OnShutdown == "" {
		i.OnShutdown = "stop"
	}
	if t := p.at("LaunchTemplate"); !t.isEmpty() {
		found, err := s.template(t.get("LaunchTemplateId"), t.get("LaunchTemplateName"))
		if err != nil {
			return nil, err
		}
		n, err := found.version(t.get("Version"))
		if err != nil {
			return nil, err
		}
		i.Tags["aws:ec2launchtemplate:id"], i.Tags["aws:ec2launchtemplate:version"] = found.id, strconv.Itoa(n)
	}
	nic := s.attach(i, subnet, p)
	s.fill(i, image, p)
	if p.get("InstanceMarketOptions", "MarketType") == "spot" {
		i.Spot = s.newID("sir")
		options := p.at("InstanceMarketOptions", "SpotOptions")
		s.spots[i.Spot] = &spotRequest{id: i.Spot, instance: i.ID, state: "active", price: options.get("MaxPrice"), kind: options.get("SpotInstanceType"), tags: p.tagsFor("spot-instances-request")}
	}
	s.instances[i.ID] = i
	if failure, ok := r.Context().Value(afterStart{}).(*Failure); ok {
		close(i.booted)
		s.terminate(i)
		i.Reason = failure.Code
	} else {
		s.boot(i, nic)
	}
	return s.reservation(i), nil
}

// checkRun checks what RunInstances is asked for.
func (s *Server) checkRun(p *params) (image Image, kind Type, subnet Subnet, err error) {
	image, ok := s.image(p.get("ImageId"))
	if !ok {
		return image, kind, subnet, &fault{"InvalidAMIID.NotFound", fmt.Sprintf("The image id '[%s]' does not exist", p.get("ImageId"))}
	}
	kind, ok = s.kind(p.get("InstanceType"))
	if !ok {
		return image, kind, subnet, &fault{"InvalidParameterValue", fmt.Sprintf("Invalid value '%s' for InstanceType.", p.get("InstanceType"))}
	}
	if !slices.Contains(kind.Architectures, image.Architecture) {
		return image, kind, subnet, &fault{"InvalidParameterValue", fmt.Sprintf("The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI.",
			strings.Join(kind.Architectures, ","), image.Architecture)}
	}
	subnet, err = s.place(p)
	if err != nil {
		return image, kind, subnet, err
	}
	if kind.NotIn == subnet.Zone {
		return image, kind, subnet, &fault{"Unsupported", fmt.Sprintf("Your requested instance type (%s) is not supported in your requested Availability Zone (%s).", kind.Name, subnet.Zone)}
	}
	spot := p.get("InstanceMarketOptions", "MarketType") == "spot"
	if price, err := strconv.ParseFloat(p.get("InstanceMarketOptions", "SpotOptions", "MaxPrice"), 64); spot && err == nil && price < s.cfg.SpotPrice {
		return image, kind, subnet, &fault{"SpotMaxPriceTooLow", fmt.Sprintf("Your Spot request price of %g is lower than the minimum required Spot request fulfillment price of %g.", price, s.cfg.SpotPrice)}
	}
	if spot && kind.OnDemandOnly {
		return image, kind, subnet, &fault{"InvalidParameterValue", "There is no Spot capacity for instance type " + kind.Name}
	}
	for _, spec := range p.list("TagSpecification") {
		taggable := []string{"instance", "volume", "network-interface"}
		if spot {
			taggable = append(taggable, "spot-instances-request")
		}
		if of := spec.get("ResourceType"); !slices.Contains(taggable, of) {
			return image, kind, subnet, &fault{"InvalidParameterValue", fmt.Sprintf("'%s' is not a valid taggable resource type for this operation.", of)}
		}
	}
	for _, m := range p.list("BlockDeviceMapping") {
		disk, ok := known(image.Disks, func(d Disk) string { return d.Device }, m.get("DeviceName"))
		if size := m.number("Ebs", "VolumeSize"); ok && size > 0 && size < disk.Size {
			return image, kind, subnet, &fault{"InvalidBlockDeviceMapping", fmt.Sprintf("Volume of size %dGB is smaller than snapshot 'snap-0%s', expect size >= %dGB", size, image.ID[5:], disk.Size)}
		}
	}
	groups := p.texts("SecurityGroupId")
	for _, nic := range p.list("NetworkInterface") {
		groups = append(groups, nic.texts("SecurityGroupId")...)
	}
	for _, id := range groups {
		if g := s.groups[id]; g == nil {
			return image, kind, subnet, &fault{"InvalidGroup.NotFound", fmt.Sprintf("The security group '%s' does not exist", id)}
		} else if g.VPC != subnet.VPC {
			return image, kind, subnet, &fault{"InvalidParameter", fmt.Sprintf("Security group %s and subnet %s belong to different networks.", id, subnet.ID)}
		}
	}
	return image, kind, subnet, nil
}

// attach makes the instance's interface.
func (s *Server) attach(i *Instance, subnet Subnet, p *params) *Interface {
	nic := &Interface{
		ID: s.newID("eni"), Instance: i.ID, Subnet: subnet.ID, VPC: subnet.VPC, Zone: subnet.Zone, Groups: p.texts("SecurityGroupId"), DeleteOn: true, WithPublic: subnet.Default,
		Tags: p.tagsFor("network-interface"),
	}
	if asked := p.list("NetworkInterface"); len(asked) > 0 {
		nic.Groups = asked[0].texts("SecurityGroupId")
		nic.DeleteOn = asked[0].get("DeleteOnTermination") != "false"
		if text := asked[0].get("AssociatePublicIpAddress"); text != "" {
			nic.WithPublic = text == "true"
		}
	}
	if len(nic.Groups) == 0 {
		for id, g := range s.groups {
			if g.standing && g.VPC == subnet.VPC {
				nic.Groups = []string{id}
			}
		}
	}
	i.Groups = nic.Groups
	s.interfaces[nic.ID] = nic
	return nic
}

// fill makes the instance's volumes: those of the image, as the request changes them,
// and those of the request.
func (s *Server) fill(i *Instance, image Image, p *params) {
	asked := map[string]*params{}
	for _, m := range p.list("BlockDeviceMapping") {
		asked[m.get("DeviceName")] = m.at("Ebs")
	}
	disks := slices.Clone(image.Disks)
	for device, ebs := range asked {
		if _, ok := known(disks, func(d Disk) string { return d.Device }, device); !ok {
			disks = append(disks, Disk{Device: device, Size: ebs.number("VolumeSize"), DeleteOn: true})
		}
	}
	for _, d := range disks {
		v := &Volume{ID: s.newID("vol"), Instance: i.ID, Device: d.Device, Zone: i.Zone, Size: d.Size, DeleteOn: d.DeleteOn, Type: "gp2", Tags: p.tagsFor("volume"), snapshot: "snap-0" + image.ID[5:]}
		ebs := asked[d.Device]
		if n := ebs.number("VolumeSize"); n > 0 {
			v.Size = n
		}
		if text := ebs.get("VolumeType"); text != "" {
			v.Type = text
		}
		if text := ebs.get("DeleteOnTermination"); text != "" {
			v.DeleteOn = text == "true"
		}
		v.Encrypted, v.Key = ebs.flag("Encrypted"), ebs.get("KmsKeyId")
		v.Iops, v.Rate = ebs.number("Iops"), ebs.number("Throughput")
		if v.Type == "gp3" {
			v.Iops, v.Rate = max(v.Iops, 3000), max(v.Rate, 125)
		}
		s.volumes[v.ID] = v
	}
}

// boot runs Config.Boot, without the lock.
func (s *Server) boot(i *Instance, nic *Interface) {
	defer close(i.booted)
	if s.cfg.Boot == nil {
		return
	}
	known := *i
	s.mu.Unlock()
	// Not the caller's context: an instance comes up when its maker has gone.
	address, err := s.cfg.Boot(context.Background(), known)
	s.mu.Lock()
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("boot %s: %w", i.ID, err))
		return
	}
	i.hasBooted = true
	// What answers has one address. Instances with a public one are reached there.
	nic.Private = address
	if nic.WithPublic {
		nic.Private, nic.Public = "10.0.0."+strconv.Itoa(4+s.made%250), address
	}
	i.Private, i.Public = nic.Private, nic.Public
}

// await waits for an instance that another call boots, without the lock.
func (s *Server) await(i *Instance) {
	s.mu.Unlock()
	<-i.booted
	s.mu.Lock()
}

// Terminate ends an instance behind everybody's back, as an interruption of a spot
// instance does, and tells whether there was one.
func (s *Server) Terminate(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.instances[id]
	if i == nil || i.State == "terminated" {
		return false
	}
	s.await(i)
	s.terminate(i)
	return true
}

// terminate ends an instance that has booted.
func (s *Server) terminate(i *Instance) {
	if i.State == "terminated" {
		return
	}
	i.State = "terminated"
	for id, nic := range s.interfaces {
		if nic.Instance == i.ID {
			if nic.Instance = ""; nic.DeleteOn {
				delete(s.interfaces, id)
			}
		}
	}
	for id, v := range s.volumes {
		if v.Instance == i.ID {
			if v.Instance = ""; v.DeleteOn {
				delete(s.volumes, id)
			}
		}
	}
	if r := s.spots[i.Spot]; r != nil {
		r.state = "closed"
	}
	if !i.hasBooted {
		return
	}
	i.hasBooted = false
	known := *i
	s.mu.Unlock()
	err := s.cfg.Shutdown(context.Background(), known)
	s.mu.Lock()
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("shut down %s: %w", i.ID, err))
	}
	i.Private, i.Public = "", ""
}

func (s *Server) wanted(p *params) ([]*Instance, error) {
	var all []*Instance
	for _, id := range p.texts("InstanceId") {
		i := s.instances[id]
		if i == nil {
			return nil, &fault{"InvalidInstanceID.NotFound", fmt.Sprintf("The instance ID '%s' does not exist", id)}
		}
		all = append(all, i)
	}
	return all, nil
}

func (s *Server) terminateInstances(_ *http.Request, p *params) ([]element, error) {
	all, err := s.wanted(p)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.protected {
			return nil, &fault{"OperationNotPermitted", fmt.Sprintf("The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.ID)}
		}
	}
	was := map[string]string{}
	for _, i := range all {
		was[i.ID] = s.state(i)
		s.await(i)
		s.terminate(i)
	}
	return []element{set("instancesSet", all, func(i *Instance) []element {
		return []element{e("instanceId", i.ID), e("currentState", stateOf("shutting-down")), e("previousState", stateOf(was[i.ID]))}
	})}, nil
}

func stateOf(name string) []element {
	code := map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}[name]
	return []element{e("code", code), e("name", name)}
}

func (s *Server) describeInstances(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.instances, p, "InstanceId", "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", s.fieldsOfInstance)
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("reservationSet", ids, func(id string) []element { return s.reservation(s.instances[id]) }), opt("nextToken", next)}, err
}

func (s *Server) fieldsOfInstance(i *Instance) fieldsOf {
	lifecycle := []string{}
	if i.Spot != "" {
		lifecycle = []string{"spot"}
	}
	return fieldsOf{
		"instance-id": {i.ID}, "instance-state-name": {s.state(i)}, "instance-type": {i.Type}, "image-id": {i.Image}, "subnet-id": {i.Subnet}, "vpc-id": {i.VPC},
		"availability-zone": {i.Zone}, "private-ip-address": {i.Private}, "ip-address": {i.Public}, "client-token": {i.clientToken}, "instance-lifecycle": lifecycle,
	}.tagged(i.Tags)
}

func (s *Server) reservation(i *Instance) []element {
	return []element{
		e("reservationId", "r-"+strings.TrimPrefix(i.ID, "i-")), e("ownerId", Account), e("groupSet"),
		set("instancesSet", []*Instance{i}, s.described),
	}
}

func (s *Server) described(i *Instance) []element {
	image, _ := s.image(i.Image)
	state := s.state(i)
	var nics []Interface
	for _, nic := range s.interfaces {
		if nic.Instance == i.ID {
			nics = append(nics, *nic)
		}
	}
	var volumes []Volume
	for _, id := range slices.Sorted(maps.Keys(s.volumes)) {
		if v := s.volumes[id]; v.Instance == i.ID {
			volumes = append(volumes, *v)
		}
	}
	out := []element{
		e("instanceId", i.ID), e("imageId", i.Image), e("instanceState", stateOf(state)), e("instanceType", i.Type), e("launchTime", i.Launched), e("amiLaunchIndex", 0),
		e("placement", e("availabilityZone", i.Zone), e("groupName"), e("tenancy", "default")), e("monitoring", e("state", "disabled")), e("architecture", image.Architecture),
		e("rootDeviceName", image.RootDevice), e("rootDeviceType", "ebs"), e("virtualizationType", "hvm"), e("hypervisor", "xen"), e("ebsOptimized", false), e("enaSupport", true),
		e("clientToken", i.clientToken), tagSet(i.Tags), e("privateDnsName"), e("dnsName"), e("hibernationOptions", e("configured", false)), e("enclaveOptions", e("enabled", false)),
		e("cpuOptions", e("coreCount", 1), e("threadsPerCore", 2)), e("capacityReservationSpecification", e("capacityReservationPreference", "open")),
		e("metadataOptions", e("state", "applied"), e("httpTokens", i.Tokens), e("httpPutResponseHopLimit", i.HopLimit), e("httpEndpoint", "enabled"), e("httpProtocolIpv6", "disabled"), e("instanceMetadataTags", "disabled")),
		set("blockDeviceMapping", volumes, func(v Volume) []element {
			return []element{e("deviceName", v.Device), e("ebs", e("volumeId", v.ID), e("status", "attached"), e("deleteOnTermination", v.DeleteOn))}
		}),
		set("networkInterfaceSet", nics, s.describedInterface),
	}
	if i.Spot != "" {
		out = append(out, e("instanceLifecycle", "spot"), e("spotInstanceRequestId", i.Spot))
	}
	if i.Reason != "" {
		_, text := wellKnown(strings.TrimPrefix(strings.TrimPrefix(i.Reason, "Server."), "Client."))
		out = append(out, e("stateReason", e("code", i.Reason), e("message", i.Reason+": "+text)))
	}
	if i.Profile != "" {
		out = append(out, e("iamInstanceProfile", e("arn", "arn:aws:iam::"+Account+":instance-profile/"+i.Profile), e("id", "AIPACKCEVSQ6C2EXAMPLE")))
	}
	if state == "terminated" { // most is gone
		return out
	}
	return append(out, e("subnetId", i.Subnet), e("vpcId", i.VPC), opt("privateIpAddress", i.Private), opt("ipAddress", i.Public), e("sourceDestCheck", !i.noCheck), s.groupSet(i.Groups))
}

func (s *Server) groupSet(ids []string) element {
	return set("groupSet", ids, func(id string) []element {
		name := ""
		if g := s.groups[id]; g != nil {
			name = g.Name
		}
		return []element{e("groupId", id), e("groupName", name)}
	})
}

func (s *Server) describeInstanceStatus(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.instances, p, "InstanceId", "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", s.fieldsOfInstance)
	ids = slices.DeleteFunc(ids, func(id string) bool {
		return s.state(s.instances[id]) != "running" && !p.flag("IncludeAllInstances")
	})
	return []element{set("instanceStatusSet", ids, func(id string) []element {
		ok := e("status", "ok")
		return []element{e("instanceId", id), e("availabilityZone", s.instances[id].Zone), e("instanceState", stateOf(s.state(s.instances[id]))), e("systemStatus", ok), e("instanceStatus", ok)}
	})}, err
}

func (s *Server) describeInstanceAttribute(_ *http.Request, p *params) ([]element, error) {
	i := s.instances[p.get("InstanceId")]
	if i == nil {
		return nil, &fault{"InvalidInstanceID.NotFound", fmt.Sprintf("The instance ID '%s' does not exist", p.get("InstanceId"))}
	}
	name := p.get("Attribute")
	var value any
	switch name {
	case "instanceInitiatedShutdownBehavior":
		value = i.OnShutdown
	case "disableApiTermination":
		value = i.protected
	case "userData":
		value = base64.StdEncoding.EncodeToString(i.UserData)
		if len(i.UserData) == 0 {
			return []element{e("instanceId", i.ID), e(name)}, nil
		}
	case "instanceType":
		value = i.Type
	case "sourceDestCheck":
		value = !i.noCheck
	default:
		return nil, &fault{"InvalidParameterValue", fmt.Sprintf("Value (%s) for parameter attribute is invalid. Unknown attribute.", name)}
	}
	return []element{e("instanceId", i.ID), e(name, e("value", value))}, nil
}

func (s *Server) modifyInstanceAttribute(_ *http.Request, p *params) ([]element, error) {
	i := s.instances[p.get("InstanceId")]
	switch {
	case i == nil:
		return nil, &fault{"InvalidInstanceID.NotFound", fmt.Sprintf("The instance ID '%s' does not exist", p.get("InstanceId"))}
	case p.at("DisableApiTermination") != nil:
		i.protected = p.flag("DisableApiTermination", "Value")
	case p.at("SourceDestCheck") != nil:
		i.noCheck = !p.flag("SourceDestCheck", "Value")
	case p.at("InstanceInitiatedShutdownBehavior") != nil:
		i.OnShutdown = p.get("InstanceInitiatedShutdownBehavior", "Value")
	default:
		return nil, &fault{"InvalidParameterCombination", "No attributes specified."}
	}
	return []element{e("return", true)}, nil
}

func (s *Server) describeInstanceCreditSpecifications(_ *http.Request, p *params) ([]element, error) {
	all, err := s.wanted(p)
	return []element{set("instanceCreditSpecificationSet", all, func(i *Instance) []element {
		return []element{e("instanceId", i.ID), e("cpuCredits", max(i.Credits, "standard"))}
	})}, err
}

func (s *Server) describeSpotInstanceRequests(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.spots, p, "SpotInstanceRequestId", "InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '%s' does not exist", func(r *spotRequest) fieldsOf {
		return fieldsOf{"spot-instance-request-id": {r.id}, "instance-id": {r.instance}, "state": {r.state}}.tagged(r.tags)
	})
	return []element{set("spotInstanceRequestSet", ids, func(id string) []element {
		r := s.spots[id]
		return []element{e("spotInstanceRequestId", r.id), e("instanceId", r.instance), e("state", r.state), opt("spotPrice", r.price), opt("type", r.kind), tagSet(r.tags)}
	})}, err
}

func (s *Server) cancelSpotInstanceRequests(_ *http.Request, p *params) ([]element, error) {
	ids := p.texts("SpotInstanceRequestId")
	for _, id := range ids {
		if s.spots[id] == nil {
			return nil, &fault{"InvalidSpotInstanceRequestID.NotFound", fmt.Sprintf("The spot instance request ID '%s' does not exist", id)}
		}
		s.spots[id].state = "cancelled"
	}
	return []element{set("spotInstanceRequestSet", ids, func(id string) []element {
		return []element{e("spotInstanceRequestId", id), e("state", "cancelled")}
	})}, nil
}

func (s *Server) describeVolumes(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.volumes, p, "VolumeId", "InvalidVolume.NotFound", "The volume '%s' does not exist.", func(v *Volume) fieldsOf {
		return fieldsOf{"volume-id": {v.ID}, "attachment.instance-id": {v.Instance}, "status": {v.status()}, "availability-zone": {v.Zone}, "volume-type": {v.Type}}.tagged(v.Tags)
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("volumeSet", ids, func(id string) []element {
		v := s.volumes[id]
		out := []element{
			e("volumeId", v.ID), e("size", v.Size), e("volumeType", v.Type), e("encrypted", v.Encrypted), e("availabilityZone", v.Zone), e("status", v.status()), e("snapshotId", v.snapshot), tagSet(v.Tags),
			opt("kmsKeyId", v.Key),
		}
		if v.Iops > 0 {
			out = append(out, e("iops", v.Iops))
		}
		if v.Rate > 0 {
			out = append(out, e("throughput", v.Rate))
		}
		if v.Instance != "" {
			out = append(out, e("attachmentSet", e("item", e("volumeId", v.ID), e("instanceId", v.Instance), e("device", v.Device), e("status", "attached"), e("deleteOnTermination", v.DeleteOn))))
		}
		return out
	}), opt("nextToken", next)}, err
}

func (v *Volume) status() string {
	if v.Instance == "" {
		return "available"
	}
	return "in-use"
}

func (s *Server) deleteVolume(_ *http.Request, p *params) ([]element, error) {
	v := s.volumes[p.get("VolumeId")]
	switch {
	case v == nil:
		return nil, &fault{"InvalidVolume.NotFound", fmt.Sprintf("The volume '%s' does not exist.", p.get("VolumeId"))}
	case v.Instance != "":
		return nil, &fault{"VolumeInUse", fmt.Sprintf("Volume %s is currently attached to %s", v.ID, v.Instance)}
	}
	delete(s.volumes, v.ID)
	return []element{e("return", true)}, nil
}

func (s *Server) describeNetworkInterfaces(_ *http.Request, p *params) ([]element, error) {
	ids, err := sortedIDs(s.interfaces, p, "NetworkInterfaceId", "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", func(n *Interface) fieldsOf {
		return fieldsOf{
			"network-interface-id": {n.ID}, "group-id": n.Groups, "subnet-id": {n.Subnet}, "vpc-id": {n.VPC}, "attachment.instance-id": {n.Instance}, "description": {""}, "status": {n.status()},
		}.tagged(n.Tags)
	})
	if err != nil {
		return nil, err
	}
	ids, next, err := s.page(p, ids)
	return []element{set("networkInterfaceSet", ids, func(id string) []element {
		return append(s.describedInterface(*s.interfaces[id]), e("availabilityZone", s.interfaces[id].Zone))
	}), opt("nextToken", next)}, err
}

func (n *Interface) status() string {
	if n.Instance == "" {
		return "available"
	}
	return "in-use"
}

func (s *Server) describedInterface(n Interface) []element {
	address := []element{opt("privateIpAddress", n.Private), e("primary", true)}
	out := []element{
		e("networkInterfaceId", n.ID), e("subnetId", n.Subnet), e("vpcId", n.VPC), e("ownerId", Account), e("status", n.status()), e("sourceDestCheck", true), e("interfaceType", "interface"), e("description"),
		s.groupSet(n.Groups), tagSet(n.Tags), opt("privateIpAddress", n.Private), e("privateIpAddressesSet", e("item", address)),
	}
	if n.Instance != "" {
		out = append(out, e("attachment", e("attachmentId", "eni-attach-"+strings.TrimPrefix(n.ID, "eni-")), e("deviceIndex", 0), e("status", "attached"), e("instanceId", n.Instance),
			e("instanceOwnerId", Account), e("deleteOnTermination", n.DeleteOn)))
	}
	if n.Public != "" {
		out = append(out, e("association", e("publicIp", n.Public), e("ipOwnerId", "amazon")))
	}
	return out
}

func (s *Server) deleteNetworkInterface(_ *http.Request, p *params) ([]element, error) {
	n := s.interfaces[p.get("NetworkInterfaceId")]
	switch {
	case n == nil:
		return nil, &fault{"InvalidNetworkInterfaceID.NotFound", fmt.Sprintf("The networkInterface ID '%s' does not exist", p.get("NetworkInterfaceId"))}
	case n.Instance != "":
		return nil, &fault{"InvalidNetworkInterface.InUse", fmt.Sprintf("Interface: [%s] in use.", n.ID)}
	}
	delete(s.interfaces, n.ID)
	return []element{e("return", true)}, nil
}
