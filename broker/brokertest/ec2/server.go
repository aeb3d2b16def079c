package ec2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What requests are made with, and what they are answered for.
const (
	AccessKey = "AKIAIOSFODNN7EXAMPLE"    //nolint:gosec // of AWS's documentation; the only one that is let in
	SecretKey = "wJalrXUtnFEMIEXAMPLEKEY" //nolint:gosec // as above
	Region    = "us-east-1"
	Account   = "123456789012"
)

// Config is how a [Server] begins. The zero value will do: it has the images, types
// and subnets of [Images], [Types] and [Subnets], and instances without addresses.
type Config struct {
	Images  []Image
	Types   []Type
	Subnets []Subnet
	// PageSize is how many entries a page of a listing has; 0 is all.
	PageSize int
	// Pending is for how long a new instance is not running yet.
	Pending time.Duration
	// SpotPrice is what spot instances cost at least: a request that would pay less
	// is refused. 0 is nothing.
	SpotPrice float64

	// Boot starts what an instance runs and gives its address; Shutdown ends it, and
	// is called once for each instance, after Boot has returned without an error.
	// Nil boots nothing.
	Boot     func(ctx context.Context, i Instance) (address string, err error)
	Shutdown func(ctx context.Context, i Instance) error
}

// Server is a region of EC2. Its methods may be called at once, but for Close.
type Server struct {
	cfg     Config
	server  *httptest.Server
	closing chan struct{}

	mu         sync.Mutex
	failures   []Failure
	latency    map[string]time.Duration
	calls      map[string]int
	made       int
	instances  map[string]*Instance
	volumes    map[string]*Volume
	interfaces map[string]*Interface
	templates  map[string]*template
	groups     map[string]*Group
	spots      map[string]*spotRequest
	errs       []error
}

// New starts a server on a free port of 127.0.0.1. The caller closes it.
func New(cfg Config) *Server {
	if cfg.Images == nil {
		cfg.Images = Images()
	}
	if cfg.Types == nil {
		cfg.Types = Types()
	}
	if cfg.Subnets == nil {
		cfg.Subnets = Subnets()
	}
	s := &Server{
		cfg: cfg, closing: make(chan struct{}), latency: map[string]time.Duration{}, calls: map[string]int{},
		instances: map[string]*Instance{}, volumes: map[string]*Volume{}, interfaces: map[string]*Interface{},
		templates: map[string]*template{}, groups: map[string]*Group{}, spots: map[string]*spotRequest{},
	}
	for _, vpc := range vpcs(cfg.Subnets) {
		id := "sg-" + strings.TrimPrefix(vpc, "vpc-")
		s.groups[id] = &Group{ID: id, Name: "default", Description: "default VPC security group", VPC: vpc, Egress: []Permission{everywhere}, standing: true}
	}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Start is [New] for a test, which closes the server at its end, and fails if
// something that was booted could not be ended.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Close ends the server, calls that hang, and whatever was booted. It is called once.
// The error joins all that Boot and Shutdown gave in the server's life.
func (s *Server) Close() error {
	close(s.closing)
	s.server.Close()
	for _, i := range s.Instances() {
		s.Terminate(i.ID)
	}
	return errors.Join(s.errs...)
}

// URL is the endpoint of all services, without a slash at its end.
func (s *Server) URL() string { return s.server.URL }

// Environment gives the variables with which AWS's libraries find their way in.
func (s *Server) Environment() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey, "AWS_REGION=" + Region, "AWS_EC2_METADATA_DISABLED=true"}
}

// SetLatency makes a call wait, after it has taken effect, before it is answered.
func (s *Server) SetLatency(action string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency[action] = wait
}

// Calls tells how often an action was called, whatever became of it.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// Actions gives the names of all calls that were made, as IAM policies name them,
// sorted: "ec2:RunInstances", "sts:GetCallerIdentity", "tag:GetResources".
func (s *Server) Actions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for action := range s.calls {
		switch action {
		case "GetCallerIdentity", "AssumeRole":
			action = "sts:" + action
		case "GetResources":
			action = "tag:" + action
		default:
			action = "ec2:" + action
		}
		all = append(all, action)
	}
	slices.Sort(all)
	return all
}

// Left names all that a client has made and that still exists: instances that are not
// terminated, volumes, network interfaces, launch templates, security groups, and spot
// requests that are open. Each is "TYPE ID".
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := []string{}
	for id, i := range s.instances {
		if i.State != "terminated" {
			left = append(left, "instance "+id)
		}
	}
	for id := range s.volumes {
		left = append(left, "volume "+id)
	}
	for id := range s.interfaces {
		left = append(left, "network-interface "+id)
	}
	for id := range s.templates {
		left = append(left, "launch-template "+id)
	}
	for id, g := range s.groups {
		if !g.standing {
			left = append(left, "security-group "+id)
		}
	}
	for id, r := range s.spots {
		if r.state == "active" {
			left = append(left, "spot-instances-request "+id)
		}
	}
	slices.Sort(left)
	return left
}

// newID gives an id of a kind, such as "i".
func (s *Server) newID(kind string) string {
	s.made++
	return fmt.Sprintf("%s-%017x", kind, 0x0a0000000000000+s.made)
}

// An action of the API. It runs with s.mu held, unless it says otherwise.
type action func(s *Server, r *http.Request, p *params) ([]element, error)

func actions() map[string]action {
	return map[string]action{
		"RunInstances":                         (*Server).runInstances,
		"TerminateInstances":                   (*Server).terminateInstances,
		"DescribeInstances":                    (*Server).describeInstances,
		"DescribeInstanceStatus":               (*Server).describeInstanceStatus,
		"DescribeInstanceAttribute":            (*Server).describeInstanceAttribute,
		"ModifyInstanceAttribute":              (*Server).modifyInstanceAttribute,
		"DescribeInstanceCreditSpecifications": (*Server).describeInstanceCreditSpecifications,
		"DescribeSpotInstanceRequests":         (*Server).describeSpotInstanceRequests,
		"CancelSpotInstanceRequests":           (*Server).cancelSpotInstanceRequests,
		"DescribeVolumes":                      (*Server).describeVolumes,
		"DeleteVolume":                         (*Server).deleteVolume,
		"DescribeNetworkInterfaces":            (*Server).describeNetworkInterfaces,
		"DeleteNetworkInterface":               (*Server).deleteNetworkInterface,
		"DescribeImages":                       (*Server).describeImages,
		"DescribeInstanceTypes":                (*Server).describeInstanceTypes,
		"DescribeInstanceTypeOfferings":        (*Server).describeInstanceTypeOfferings,
		"DescribeSubnets":                      (*Server).describeSubnets,
		"DescribeVpcs":                         (*Server).describeVpcs,
		"DescribeAvailabilityZones":            (*Server).describeAvailabilityZones,
		"DescribeKeyPairs":                     (*Server).describeKeyPairs,
		"DescribeAccountAttributes":            (*Server).describeAccountAttributes,
		"CreateSecurityGroup":                  (*Server).createSecurityGroup,
		"DeleteSecurityGroup":                  (*Server).deleteSecurityGroup,
		"DescribeSecurityGroups":               (*Server).describeSecurityGroups,
		"DescribeSecurityGroupRules":           (*Server).describeSecurityGroupRules,
		"AuthorizeSecurityGroupIngress":        changeRules(false, false),
		"AuthorizeSecurityGroupEgress":         changeRules(true, false),
		"RevokeSecurityGroupIngress":           changeRules(false, true),
		"RevokeSecurityGroupEgress":            changeRules(true, true),
		"CreateLaunchTemplate":                 (*Server).createLaunchTemplate,
		"CreateLaunchTemplateVersion":          (*Server).createLaunchTemplateVersion,
		"DeleteLaunchTemplate":                 (*Server).deleteLaunchTemplate,
		"DescribeLaunchTemplates":              (*Server).describeLaunchTemplates,
		"DescribeLaunchTemplateVersions":       (*Server).describeLaunchTemplateVersions,
		"CreateTags":                           (*Server).createTags,
		"DeleteTags":                           (*Server).deleteTags,
		"DescribeTags":                         (*Server).describeTags,
		"GetCallerIdentity":                    (*Server).getCallerIdentity,
		"AssumeRole":                           (*Server).assumeRole,
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Amz-Target") != "" {
		s.serveTagging(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p := parseForm(r.PostForm)
	name := p.get("Action")
	s.mu.Lock()
	s.calls[name]++
	s.mu.Unlock()

	var answer []element
	var err error
	run := actions()[name]
	switch {
	case !isLetIn(r):
		_, text := wellKnown("AuthFailure")
		err = &fault{"AuthFailure", text}
	case run == nil:
		err = &fault{"InvalidAction", fmt.Sprintf("The action %s is not valid for this web service.", name)}
	default:
		answer, err = s.call(r, name, p, run)
	}
	switch f, failed := errors.AsType[*fault](err); {
	case errors.Is(err, errDropped):
		panic(http.ErrAbortHandler) // closes the connection
	case failed:
		writeFault(w, name, f)
	default:
		writeAnswer(w, name, answer)
	}
}

var errDropped = errors.New("the connection is cut")

// call runs an action with its failures and its latency.
func (s *Server) call(r *http.Request, name string, p *params, run action) ([]element, error) {
	zone, spot := "", false
	s.mu.Lock()
	if name == "RunInstances" {
		zone, spot = s.placed(p)
	}
	failure := s.failing(name, zone, spot)
	var answer []element
	var err error
	switch {
	case p.flag("DryRun"):
		err = &fault{"DryRunOperation", "Request would have succeeded, but DryRun flag is set."}
	case failure == nil || failure.Late || failure.AfterStart:
		if failure != nil && failure.AfterStart {
			r = r.WithContext(context.WithValue(r.Context(), afterStart{}, failure))
		}
		answer, err = run(s, r, p)
	}
	wait := s.latency[name]
	s.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
	switch {
	case failure == nil || failure.AfterStart || err != nil && failure.Late:
	case failure.Drop:
		return nil, errDropped
	default:
		return nil, &fault{failure.Code, failure.Message}
	}
	return answer, err
}

// afterStart is the key of a failure that the instance meets.
type afterStart struct{}

func isLetIn(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Authorization"), "Credential="+AccessKey+"/")
}

func writeAnswer(w http.ResponseWriter, name string, answer []element) {
	var b strings.Builder
	if name == "GetCallerIdentity" || name == "AssumeRole" {
		b.WriteString(`<` + name + `Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`)
		e(name+"Result", answer).write(&b)
		e("ResponseMetadata", e("RequestId", requestID)).write(&b)
	} else {
		b.WriteString(`<` + name + `Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">`)
		e("requestId", requestID).write(&b)
		for _, part := range answer {
			part.write(&b)
		}
	}
	b.WriteString(`</` + name + `Response>`)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	_, _ = w.Write([]byte(b.String())) // a caller that has gone needs no answer
}

func writeFault(w http.ResponseWriter, name string, f *fault) {
	status, _ := wellKnown(f.code)
	if f.code == "DryRunOperation" {
		status = http.StatusPreconditionFailed
	}
	var b strings.Builder
	said := []element{e("Code", f.code), e("Message", f.message)}
	if name == "GetCallerIdentity" || name == "AssumeRole" {
		e("ErrorResponse", e("Error", e("Type", "Sender"), said), e("RequestId", requestID)).write(&b)
	} else {
		e("Response", e("Errors", e("Error", said)), e("RequestID", requestID)).write(&b)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(b.String())) // a caller that has gone needs no answer
}

const requestID = "59dbff89-35bd-4eac-99ed-be587EXAMPLE"

func (s *Server) getCallerIdentity(*http.Request, *params) ([]element, error) {
	return []element{e("Arn", "arn:aws:iam::"+Account+":user/duffy-broker"), e("UserId", "AIDACKCEVSQ6C2EXAMPLE"), e("Account", Account)}, nil
}

// assumeRole gives the credentials back that are let in.
func (s *Server) assumeRole(_ *http.Request, p *params) ([]element, error) {
	return []element{
		e("Credentials", e("AccessKeyId", AccessKey), e("SecretAccessKey", SecretKey), e("SessionToken", "token"), e("Expiration", time.Now().Add(time.Hour))),
		e("AssumedRoleUser", e("Arn", p.get("RoleArn")), e("AssumedRoleId", "AROA3XFRBF23EXAMPLE:duffy-broker")),
	}, nil
}

// page cuts a listing of ids.
func (s *Server) page(p *params, ids []string) (page []string, next string, err error) {
	size := s.cfg.PageSize
	if most := p.number("MaxResults"); most > 0 && (size == 0 || most < size) {
		size = most
	}
	if token := p.get("NextToken"); token != "" {
		at := slices.Index(ids, token)
		if at < 0 {
			return nil, "", &fault{"InvalidParameterValue", "Unable to parse pagination token"}
		}
		ids = ids[at:]
	}
	if size > 0 && len(ids) > size {
		return ids[:size], ids[size], nil
	}
	return ids, "", nil
}

// sortedIDs gives the keys of what the filters and the list of ids of a call let
// through, oldest first. A name that is missing is an error with code.
func sortedIDs[T any](all map[string]T, p *params, idsAt, code, text string, fields func(T) fieldsOf) ([]string, error) {
	wanted := p.texts(idsAt)
	for _, id := range wanted {
		if _, ok := all[id]; !ok {
			return nil, &fault{code, fmt.Sprintf(text, id)}
		}
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if len(wanted) > 0 && !slices.Contains(wanted, id) {
			continue
		}
		fits, err := fields(all[id]).fit(p)
		if err != nil {
			return nil, err
		}
		if fits {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
