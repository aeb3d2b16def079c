package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) listTenants(c *gin.Context, actor broker.Tenant) error {
	var k checker
	after, limit := k.after(c), k.limit(c)
	if err := k.err(""); err != nil {
		return err
	}
	tenants, err := s.cfg.Broker.VisibleTenants(c.Request.Context(), actor)
	if err != nil {
		return err
	}
	wire := make([]v1.TenantDetail, 0, len(tenants))
	for _, t := range tenants {
		if t.ID > after && (limit == 0 || len(wire) < limit) {
			wire = append(wire, s.tenantDetail(t))
		}
	}
	return answer(c, http.StatusOK, v1.TenantsAnswer{Action: v1.ActionGet, Tenants: wire})
}

// whoami shows the tenant whose credentials were sent.
func (s *server) whoami(c *gin.Context, actor broker.Tenant) error {
	t, err := s.cfg.Broker.Tenant(c.Request.Context(), actor, actor.ID)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, v1.TenantAnswer{Action: v1.ActionGet, Tenant: s.tenantDetail(t)})
}

func (s *server) showTenant(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id := k.pathID(c)
	if err := k.err(""); err != nil {
		return err
	}
	t, err := s.cfg.Broker.Tenant(c.Request.Context(), actor, id)
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.TenantAnswer{Action: v1.ActionGet, Tenant: s.tenantDetail(t)})
}

// createTenant checks the body before the role, as Duffy does.
func (s *server) createTenant(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	wanted := k.newTenant(object)
	if err := k.err(""); err != nil {
		return err
	}
	t, key, err := s.cfg.Broker.CreateTenant(c.Request.Context(), actor, wanted)
	if err != nil {
		return asDuffy(err)
	}
	created := v1.TenantCreated{TenantWithKey: v1.TenantWithKey{TenantDetail: s.tenantDetail(t), APIKey: &key}}
	if t.SSHKey != "" {
		created.SSHKey = &t.SSHKey // this once not masked, as in Duffy
	}
	return answer(c, http.StatusCreated, v1.TenantCreatedAnswer{Action: v1.ActionPost, Tenant: created})
}

func (s *server) updateTenant(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	id := k.pathID(c)
	update := k.tenantUpdate(object)
	if err := k.err(""); err != nil {
		return err
	}
	t, key, err := s.cfg.Broker.UpdateTenant(c.Request.Context(), actor, id, update)
	if err != nil {
		return asDuffy(err)
	}
	wire := v1.TenantWithKey{TenantDetail: s.tenantDetail(t)}
	if update.Active == nil { // Duffy masks what there is, and has nothing when it retires
		masked := v1.Masked
		if wire.APIKey = &masked; update.ResetKey {
			wire.APIKey = &key
		}
	}
	return answer(c, http.StatusOK, v1.TenantWithKeyAnswer{Action: v1.ActionPut, Tenant: wire})
}

func (s *server) tenantDetail(t broker.Tenant) v1.TenantDetail {
	return v1.TenantDetail{
		Tenant: wireTenant(t, s.cfg.Broker.TenantDefaults()), LastUsed: v1.Time{Time: t.LastUsed},
		PreviousKeyValid: len(t.PreviousKeyHash) > 0,
	}
}

// newTenant reads the body of POST /tenants.
func (k *checker) newTenant(object map[string]any) broker.Tenant {
	var t broker.Tenant
	body := []any{"body"}
	if v, ok := k.required(object, body, "name"); ok {
		t.Name = k.text(v, "body", "name")
	}
	if v := object["is_admin"]; v != nil {
		t.IsAdmin = k.boolean(v, "body", "is_admin")
	}
	if v, ok := k.required(object, body, "ssh_key"); ok {
		t.SSHKey = k.text(v, "body", "ssh_key")
	}
	t.NodeQuota = k.quota(object).Value
	t.SessionLifetime = k.lifetime(object, "session_lifetime").Value
	t.SessionLifetimeMax = k.lifetime(object, "session_lifetime_max").Value
	return t
}

// tenantUpdate reads the body of PUT /tenants/ID. As in Duffy it is one of two
// kinds: with any of the fields that can be changed it changes those, and does
// not look at "active"; without them it retires or un-retires.
func (k *checker) tenantUpdate(object map[string]any) broker.TenantUpdate {
	known := false
	for _, name := range []string{"ssh_key", "api_key", "previous_api_key", "node_quota", "session_lifetime", "session_lifetime_max"} {
		if _, ok := object[name]; ok {
			known = true
		}
	}
	if !known {
		return k.tenantActive(object)
	}
	var u broker.TenantUpdate
	if v := object["ssh_key"]; v != nil {
		text := k.text(v, "body", "ssh_key")
		u.SSHKey = &text
	}
	k.tenantKey(object, &u)
	u.NodeQuota = k.quota(object)
	u.SessionLifetime = k.lifetime(object, "session_lifetime")
	u.SessionLifetimeMax = k.lifetime(object, "session_lifetime_max")
	if len(k.fields) > 0 { // Duffy says of each kind why it is not that
		k.active(object)
	}
	return u
}

func (k *checker) tenantActive(object map[string]any) broker.TenantUpdate {
	before := len(k.fields)
	active := k.active(object)
	if len(k.fields) == before {
		return broker.TenantUpdate{Active: &active}
	}
	wrong := k.fields[before:]
	k.fields = k.fields[:before:before]
	k.fail([]any{"body", "__root__"}, "one of ssh_key, api_key, node_quota, session_lifetime, session_lifetime_max is required", "value_error", nil)
	k.fields = append(k.fields, wrong...)
	return broker.TenantUpdate{}
}

func (k *checker) active(object map[string]any) bool {
	v, ok := k.required(object, []any{"body"}, "active")
	return ok && k.boolean(v, "body", "active")
}

// tenantKey reads what is to happen with the API key.
func (k *checker) tenantKey(object map[string]any, u *broker.TenantUpdate) {
	if v := object["api_key"]; v != nil {
		text, _ := v.(string)
		key, ok := canonicalUUID(text)
		if u.ResetKey = text == "reset"; !u.ResetKey {
			u.APIKey = key
		}
		if !u.ResetKey && !ok {
			loc := []any{"body", "api_key"}
			k.fail(loc, "value is not a valid uuid", "type_error.uuid", nil)
			k.fail(loc, "unexpected value; permitted: 'reset'", "value_error.const", map[string]any{"given": v, "permitted": []any{"reset"}})
		}
	}
	switch v := object["previous_api_key"]; v {
	case nil:
	case "keep":
		if u.KeepKey = true; object["api_key"] == nil {
			k.fail([]any{"body", "previous_api_key"}, "\"keep\" goes with a new api_key", "value_error", nil)
		}
	case "drop":
		u.DropKey = true
	default:
		k.fail([]any{"body", "previous_api_key"}, "unexpected value; permitted: 'keep', 'drop'", "value_error.const",
			map[string]any{"given": v, "permitted": []any{"keep", "drop"}})
	}
}

// canonicalUUID reads a UUID in the forms that Python takes, and writes it the
// one way in which it is a key.
func canonicalUUID(text string) (string, bool) {
	text = strings.NewReplacer("urn:", "", "uuid:", "").Replace(text)
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Trim(text, "{}"), "-", ""))
	if err != nil || len(b) != 16 {
		return "", false
	}
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"), true
}

func (k *checker) quota(object map[string]any) (o broker.Override[int]) {
	v, ok := object["node_quota"]
	if !ok {
		return o
	}
	o.Set = true
	if v == nil {
		return o
	}
	before := len(k.fields)
	n := k.integer(v, "body", "node_quota")
	if len(k.fields) == before && n <= 0 { // Duffy's client refuses answers with such a quota
		k.fail([]any{"body", "node_quota"}, "ensure this value is greater than 0", "value_error.number.not_gt", map[string]any{"limit_value": 0})
	}
	quota := int(min(n, math.MaxInt32))
	o.Value = &quota
	return o
}

func (k *checker) lifetime(object map[string]any, name string) (o broker.Override[time.Duration]) {
	v, ok := object[name]
	if !ok {
		return o
	}
	o.Set = true
	if v == nil {
		return o
	}
	d, err := parseDuration(v)
	if err != nil {
		k.fail([]any{"body", name}, err.Error(), "value_error.duration", nil)
		return o
	}
	o.Value = &d
	return o
}

var (
	errDuration      = errors.New("invalid duration format")
	errDurationRange = errors.New("duration is out of range")
)

// parseDuration reads a length of time as Duffy takes it: seconds as number or
// string, or numbers with units, the larger units first ("1d 2h").
func parseDuration(v any) (time.Duration, error) {
	number, ok := v.(json.Number)
	text, isText := v.(string)
	text = strings.ToLower(strings.TrimSpace(text))
	if isText && numberForm.MatchString(text) {
		number, ok = json.Number(text), true
	}
	switch {
	case ok:
		seconds, err := number.Float64()
		if err != nil {
			return 0, errDuration
		}
		if !(seconds > 0 && seconds < math.MaxInt64/float64(time.Second)) {
			return 0, errDurationRange
		}
		return time.Duration(math.Round(seconds*1e6)) * time.Microsecond, nil
	case !isText:
		return 0, errDuration
	}
	if !strings.HasPrefix(text, "+") {
		text = "+" + text
	}
	d, ok, inRange := parseShift(text)
	switch {
	case !ok:
		return 0, errDuration
	case !inRange || d <= 0:
		return 0, errDurationRange
	}
	return d, nil
}
