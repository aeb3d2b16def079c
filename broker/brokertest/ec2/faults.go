package ec2

import (
	"net/http"
	"slices"
)

// Failure is an error on demand.
type Failure struct {
	Action string // such as "RunInstances"; "" is every action
	Code   string // an error code of EC2
	// Message is its text; "" is EC2's own for the codes that this package knows.
	Message string
	Zone    string // only in this zone: RunInstances alone
	Spot    bool   // only of spot instances: RunInstances alone
	Times   int    // how often; 0 is for ever
	// Late: the call takes effect all the same.
	Late bool
	// Drop cuts the connection instead of answering. Code may be empty.
	Drop bool
	// AfterStart lets RunInstances succeed, and the instance end by itself at once,
	// with the code as its reason.
	AfterStart bool
}

// fault is an error of the API.
type fault struct {
	code    string
	message string
}

func (f *fault) Error() string { return f.code + ": " + f.message }

// wellKnown has the texts and statuses of errors that come on demand.
func wellKnown(code string) (status int, message string) {
	switch code {
	case "InsufficientInstanceCapacity":
		return http.StatusInternalServerError, "We currently do not have sufficient c5.metal capacity in the Availability Zone you requested. Our system will be working on provisioning additional capacity."
	case "RequestLimitExceeded":
		return http.StatusServiceUnavailable, "Request limit exceeded."
	case "VcpuLimitExceeded":
		return http.StatusBadRequest, "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket that the specified instance type belongs to. " +
			"Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
	case "MaxSpotInstanceCountExceeded":
		return http.StatusBadRequest, "Max spot instance count exceeded"
	case "InsufficientFreeAddressesInSubnet":
		return http.StatusBadRequest, "Not enough free addresses in subnet"
	case "Unsupported":
		return http.StatusBadRequest, "Your requested instance type is not supported in your requested Availability Zone. Please retry your request by not specifying an Availability Zone."
	case "UnauthorizedOperation":
		return http.StatusForbidden, "You are not authorized to perform this operation."
	case "AuthFailure":
		return http.StatusUnauthorized, "AWS was not able to validate the provided access credentials"
	case "ExpiredToken":
		return http.StatusForbidden, "The security token included in the request is expired"
	case "OptInRequired":
		return http.StatusUnauthorized, "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe."
	case "InternalError":
		return http.StatusInternalServerError, "An internal error has occurred"
	case "Unavailable":
		return http.StatusServiceUnavailable, "The service is unavailable. Please try again shortly."
	}
	return http.StatusBadRequest, "The request can not be served."
}

// SetFailures replaces the errors on demand. The first that applies counts.
func (s *Server) SetFailures(all ...Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = slices.Clone(all)
}

// failing gives the failure of a call, used up by one, or nil.
func (s *Server) failing(action, zone string, spot bool) *Failure {
	for i, f := range s.failures {
		if f.Action != "" && f.Action != action || f.Zone != "" && f.Zone != zone || f.Spot && !spot {
			continue
		}
		if f.Times > 0 {
			if s.failures[i].Times--; s.failures[i].Times == 0 {
				s.failures = slices.Delete(slices.Clone(s.failures), i, i+1)
			}
		}
		if _, text := wellKnown(f.Code); f.Message == "" {
			f.Message = text
		}
		return &f
	}
	return nil
}
