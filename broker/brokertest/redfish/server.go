// Package redfish emulates the management controller of one machine, for tests:
// as much of Redfish as switching, booting and claiming a machine take.
//
// The service has a root, sessions and basic authentication, one system (Systems/1)
// in one chassis (Chassis/1) with one manager (Managers/1): power actions, boot
// override with HttpBootUri, asset tags of system and chassis, and a virtual CD drive.
// What a machine would do is for the test: see [Options.OnPower].
package redfish

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Paths of the resources.
const (
	SystemPath  = "/redfish/v1/Systems/1"
	chassisPath = "/redfish/v1/Chassis/1"
	managerPath = "/redfish/v1/Managers/1"
	sessionPath = "/redfish/v1/SessionService/Sessions"
)

// Boot is what a machine boots from when it is switched on.
type Boot struct {
	Target string // "None" without an override, else "Pxe", "UefiHttp", "Cd", "Hdd"
	Mode   string // "UEFI", "Legacy" or ""
	URI    string // of HttpBootUri
	Image  string // in the virtual drive, "" for none
}

// Options says what a controller is like. The zero value is one that can do all.
type Options struct {
	Username, Password string // "admin" and "secret" if both are empty
	TLS                bool
	// OnPower is called when the machine goes on or off, one call at a time. boot is
	// set when it goes on.
	OnPower func(on bool, boot Boot)
	// PowerDelay is how long the machine takes to go on or off.
	PowerDelay time.Duration
	// NoSystemTag: the asset tag of the system can't be written; NoChassisTag, that of
	// the chassis.
	NoSystemTag, NoChassisTag bool
	// TagLimit is how many characters of a tag are kept; 0: all.
	TagLimit int
	// NoSessions: basic authentication only.
	NoSessions bool
	// ManagerMedia: the virtual drive belongs to the manager; NoMedia: there is none.
	ManagerMedia, NoMedia bool
	// SharedChassis: there is another system in the chassis.
	SharedChassis bool
}

// Server is a running emulator. Its methods may be called at any time.
type Server struct {
	Options

	http *httptest.Server

	mu       sync.Mutex
	power    string // "On", "Off", "PoweringOn", "PoweringOff"
	tags     map[string]string
	boot     Boot
	once     string // "Disabled", "Once", "Continuous"
	sessions map[string]string
	last     int
	requests []string
	fault    func(r *http.Request) (status int, message string)
	changes  sync.WaitGroup
	hook     sync.Mutex
}

// New starts an emulator of a machine that is off. It ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Username == "" && o.Password == "" {
		o.Username, o.Password = "admin", "secret"
	}
	s := &Server{Options: o, power: "Off", tags: map[string]string{}, boot: Boot{Target: "None"}, once: "Disabled", sessions: map[string]string{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that tests let fail
	if o.TLS {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	t.Cleanup(func() {
		s.http.Close()
		s.changes.Wait()
	})
	return s
}

// URL is the address of the service.
func (s *Server) URL() string { return s.http.URL }

// CA gives the certificate of a server with TLS, which signs itself.
func (s *Server) CA() []byte { return s.http.Certificate().Raw }

// On tells whether the machine is on.
func (s *Server) On() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.power == "On"
}

// Switch switches the machine as its power button, or its own system, would.
func (s *Server) Switch(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(on)
}

// Tag gives the asset tag of the system, or of the chassis if that has none.
func (s *Server) Tag() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tags[SystemPath] != "" {
		return s.tags[SystemPath]
	}
	return s.tags[chassisPath]
}

// SetTag sets the asset tag of the system.
func (s *Server) SetTag(tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags[SystemPath] = tag
}

// Next gives what the machine would boot from now.
func (s *Server) Next() Boot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot
}

// Sessions counts those that are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Requests lists those that changed something, as "METHOD path body".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Fail sets what decides whether a request fails: with the status that it gives, if
// that is not 0. It is called before the request has any effect. A status of -1 breaks
// the connection. nil ends it.
func (s *Server) Fail(fault func(r *http.Request) (status int, message string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// change lets the machine go on or off. s is locked.
func (s *Server) change(on bool) {
	target, during := "Off", "PoweringOff"
	if on {
		target, during = "On", "PoweringOn"
	}
	if s.power == target || s.power == during {
		return
	}
	s.power = during
	finish := func() {
		s.hook.Lock()
		defer s.hook.Unlock()
		s.mu.Lock()
		if s.power != during {
			s.mu.Unlock()
			return
		}
		s.power = target
		boot := Boot{}
		if on {
			boot = s.boot
			if s.once == "Once" {
				s.once, s.boot.Target, s.boot.URI = "Disabled", "None", ""
			}
		}
		s.mu.Unlock()
		if s.OnPower != nil {
			s.OnPower(on, boot)
		}
	}
	s.changes.Go(func() {
		time.Sleep(s.PowerDelay)
		finish()
	})
}

type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

func collection(path string, members ...string) object {
	links := make([]object, len(members))
	for i, m := range members {
		links[i] = link(m)
	}
	return object{"@odata.id": path, "Name": path, "Members": links, "Members@odata.count": len(members)}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	path := strings.TrimSuffix(r.URL.Path, "/")
	if s.fault != nil {
		switch status, message := s.fault(r); {
		case status < 0:
			panic(http.ErrAbortHandler)
		case status > 0:
			fail(w, status, message)
			return
		}
	}
	if path != "/redfish/v1" && (r.Method != http.MethodPost || path != sessionPath) && !s.allowed(r) {
		fail(w, http.StatusUnauthorized, "There is no valid session established.")
		return
	}
	if r.Method != http.MethodGet && path != sessionPath && !strings.HasPrefix(path, sessionPath+"/") {
		s.requests = append(s.requests, fmt.Sprintf("%s %s %s", r.Method, path, body))
	}
	fields := object{}
	if len(body) > 0 && json.Unmarshal(body, &fields) != nil {
		fail(w, http.StatusBadRequest, "The request body is no JSON.")
		return
	}
	switch {
	case r.Method == http.MethodGet:
		if answer := s.read(path); answer != nil {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer)
			return
		}
		fail(w, http.StatusNotFound, "The resource at the URI "+path+" was not found.")
	case r.Method == http.MethodPost && path == sessionPath:
		s.login(w, fields)
	case r.Method == http.MethodDelete && strings.HasPrefix(path, sessionPath+"/"):
		delete(s.sessions, strings.TrimPrefix(path, sessionPath+"/"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch && (path == SystemPath || path == chassisPath):
		s.patch(w, path, fields)
	case r.Method == http.MethodPost && path == SystemPath+"/Actions/ComputerSystem.Reset":
		s.reset(w, fmt.Sprint(fields["ResetType"]))
	case r.Method == http.MethodPost && path == s.media()+"/CD/Actions/VirtualMedia.InsertMedia":
		if s.boot.Image != "" {
			fail(w, http.StatusBadRequest, "There is media in the drive.")
			return
		}
		s.boot.Image = fmt.Sprint(fields["Image"])
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost && path == s.media()+"/CD/Actions/VirtualMedia.EjectMedia":
		s.boot.Image = ""
		w.WriteHeader(http.StatusNoContent)
	default:
		fail(w, http.StatusMethodNotAllowed, "The resource does not allow this.")
	}
}

func (s *Server) allowed(r *http.Request) bool {
	if user, password, ok := r.BasicAuth(); ok {
		return user == s.Username && password == s.Password
	}
	token := r.Header.Get("X-Auth-Token")
	for _, known := range s.sessions {
		if token == known {
			return true
		}
	}
	return false
}

func (s *Server) login(w http.ResponseWriter, fields object) {
	switch {
	case s.NoSessions:
		fail(w, http.StatusMethodNotAllowed, "The service has no sessions.")
	case fields["UserName"] != s.Username || fields["Password"] != s.Password:
		fail(w, http.StatusUnauthorized, "The user name or the password is wrong.")
	default:
		s.last++
		id := strconv.Itoa(s.last)
		s.sessions[id] = "token-" + id
		w.Header().Set("X-Auth-Token", s.sessions[id])
		w.Header().Set("Location", sessionPath+"/"+id)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(link(sessionPath + "/" + id))
	}
}

func (s *Server) media() string {
	if s.ManagerMedia {
		return managerPath + "/VirtualMedia"
	}
	return SystemPath + "/VirtualMedia"
}

func (s *Server) read(path string) object {
	systems := []string{SystemPath}
	if s.SharedChassis {
		systems = append(systems, "/redfish/v1/Systems/2")
	}
	switch path {
	case "/redfish/v1":
		return object{
			"@odata.id": "/redfish/v1/", "Id": "RootService", "Name": "Root Service", "RedfishVersion": "1.15.0",
			"Systems": link("/redfish/v1/Systems"), "Chassis": link("/redfish/v1/Chassis"), "Managers": link("/redfish/v1/Managers"),
			"SessionService": link("/redfish/v1/SessionService"), "Links": object{"Sessions": link(sessionPath)},
		}
	case "/redfish/v1/Systems":
		return collection(path, systems...)
	case "/redfish/v1/Chassis":
		return collection(path, chassisPath)
	case "/redfish/v1/Managers":
		return collection(path, managerPath)
	case SystemPath, "/redfish/v1/Systems/2":
		o := object{
			"@odata.id": path, "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem", "Id": path[len(path)-1:], "Name": "System",
			"PowerState": s.power, "AssetTag": s.tags[path],
			"Boot": object{
				"BootSourceOverrideEnabled": s.once, "BootSourceOverrideTarget": s.boot.Target, "BootSourceOverrideMode": s.boot.Mode, "HttpBootUri": s.boot.URI,
				"BootSourceOverrideTarget@Redfish.AllowableValues": []string{"None", "Pxe", "Cd", "Hdd", "UefiHttp"},
			},
			"Links": object{"Chassis": []object{link(chassisPath)}, "ManagedBy": []object{link(managerPath)}},
			"Actions": object{"#ComputerSystem.Reset": object{
				"target": path + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": []string{"On", "ForceOff", "ForceRestart"},
			}},
		}
		if !s.ManagerMedia && !s.NoMedia {
			o["VirtualMedia"] = link(s.media())
		}
		return o
	case chassisPath:
		links := make([]object, len(systems))
		for i, system := range systems {
			links[i] = link(system)
		}
		return object{
			"@odata.id": path, "@odata.type": "#Chassis.v1_25_0.Chassis", "Id": "1", "Name": "Chassis", "ChassisType": "RackMount",
			"AssetTag": s.tags[path], "Links": object{"ComputerSystems": links},
		}
	case managerPath:
		o := object{"@odata.id": path, "@odata.type": "#Manager.v1_19_0.Manager", "Id": "1", "Name": "Manager", "ManagerType": "BMC"}
		if s.ManagerMedia && !s.NoMedia {
			o["VirtualMedia"] = link(s.media())
		}
		return o
	case s.media():
		return collection(path, path+"/CD")
	case s.media() + "/CD":
		return object{
			"@odata.id": path, "@odata.type": "#VirtualMedia.v1_6_3.VirtualMedia", "Id": "CD", "Name": "Virtual CD",
			"MediaTypes": []string{"CD", "DVD"}, "Image": s.boot.Image, "Inserted": s.boot.Image != "",
			"Actions": object{
				"#VirtualMedia.InsertMedia": object{"target": path + "/Actions/VirtualMedia.InsertMedia"},
				"#VirtualMedia.EjectMedia":  object{"target": path + "/Actions/VirtualMedia.EjectMedia"},
			},
		}
	}
	return nil
}

func (s *Server) patch(w http.ResponseWriter, path string, fields object) {
	if tag, ok := fields["AssetTag"].(string); ok {
		if path == SystemPath && s.NoSystemTag || path == chassisPath && s.NoChassisTag {
			fail(w, http.StatusBadRequest, "The property AssetTag is a read only property and cannot be assigned a value.")
			return
		}
		if s.TagLimit > 0 && len(tag) > s.TagLimit {
			tag = tag[:s.TagLimit]
		}
		s.tags[path] = tag
	}
	if boot, ok := fields["Boot"].(object); ok && path == SystemPath {
		text := func(name, otherwise string) string {
			if v, ok := boot[name].(string); ok {
				return v
			}
			return otherwise
		}
		target := text("BootSourceOverrideTarget", s.boot.Target)
		if !strings.Contains(" None Pxe Cd Hdd UefiHttp ", " "+target+" ") {
			fail(w, http.StatusBadRequest, "The value "+target+" is not in the list of acceptable values.")
			return
		}
		s.boot.Target = target
		s.boot.Mode, s.boot.URI = text("BootSourceOverrideMode", s.boot.Mode), text("HttpBootUri", "")
		s.once = text("BootSourceOverrideEnabled", s.once)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) reset(w http.ResponseWriter, way string) {
	switch way {
	case "On":
		s.change(true)
	case "ForceOff":
		s.change(false)
	case "ForceRestart":
		s.power = "Off"
		s.change(true)
	default:
		fail(w, http.StatusBadRequest, "The value "+way+" for the parameter ResetType is not in the list of acceptable values.")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{
		"code": "Base.1.15.GeneralError", "message": "A general error has occurred. See ExtendedInfo for more information.",
		"@Message.ExtendedInfo": []object{{"Message": message, "MessageId": "Base.1.15.GeneralError"}},
	}})
}
