package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func TestSessionRequest_lenient(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	one := []broker.NodesSpec{{Pool: "small", Quantity: 1}}
	tests := map[string]struct {
		body string
		want broker.SessionRequest
	}{
		"plain":           {`{"nodes_specs": [{"quantity": 1, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"string":          {`{"nodes_specs": [{"quantity": " 1 ", "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"fraction":        {`{"nodes_specs": [{"quantity": 1.7, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"boolean":         {`{"nodes_specs": [{"quantity": true, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"exponent":        {`{"nodes_specs": [{"quantity": 1e0, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"huge":            {`{"nodes_specs": [{"quantity": 100000000000000000000, "pool": "p"}]}`, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "p", Quantity: 1<<31 - 1}}}},
		"huge fraction":   {`{"nodes_specs": [{"quantity": 1e300, "pool": "p"}]}`, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "p", Quantity: 1<<31 - 1}}}},
		"pool number":     {`{"nodes_specs": [{"quantity": 1, "pool": 5}]}`, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "5", Quantity: 1}}}},
		"no specs":        {`{"nodes_specs": []}`, broker.SessionRequest{Specs: []broker.NodesSpec{}}},
		"null tenant":     {`{"tenant_id": null, "nodes_specs": [{"quantity": 1, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"tenant":          {`{"tenant_id": 3, "nodes_specs": [{"quantity": 1, "pool": "small"}]}`, broker.SessionRequest{TenantID: id(3), Specs: one}},
		"tenant string":   {`{"tenant_id": "3", "nodes_specs": [{"quantity": 1, "pool": "small"}]}`, broker.SessionRequest{TenantID: id(3), Specs: one}},
		"tenant zero":     {`{"tenant_id": 0, "nodes_specs": [{"quantity": 1, "pool": "small"}]}`, broker.SessionRequest{TenantID: id(0), Specs: one}},
		"extra fields":    {`{"x": [], "nodes_specs": [{"quantity": 1, "pool": "small", "y": 1}], "expires_at": "+1h"}`, broker.SessionRequest{Specs: one}},
		"last one counts": {`{"nodes_specs": 1, "nodes_specs": [{"quantity": 7, "quantity": 1, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
		"case counts":     {`{"Nodes_Specs": 1, "nodes_specs": [{"Quantity": 7, "quantity": 1, "pool": "small"}]}`, broker.SessionRequest{Specs: one}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			url := start(t, Config{Broker: f})
			a := send(t, http.MethodPost, url+"/api/v1/sessions", test.body, asDemo)
			if a.status != http.StatusCreated {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if diff := cmp.Diff(test.want, f.request); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSessionRequest_refused(t *testing.T) {
	tests := map[string]struct{ contentType, body, detail string }{
		"no body":            {"", "", "body: field required"},
		"null":               {"", "null", "body: field required"},
		"number":             {"", "5", "nodes_specs: field required"},
		"missing":            {"", "{}", "nodes_specs: field required"},
		"text":               {"text/plain", sessionBody, "nodes_specs: field required"},
		"form":               {"application/x-www-form-urlencoded", "a=b", "nodes_specs: field required"},
		"odd type":           {"application/json; charset", sessionBody, "nodes_specs: field required"},
		"broken":             {"", `{"nodes_specs": [`, "body: Expecting value: line 1 column 18 (char 17)"},
		"broken on line 2":   {"", "{\n\"é\": nope}", "body: Expecting value: line 2 column 6 (char 7)"},
		"something after":    {"", "{} {}", "body: invalid character '{' after top-level value: line 1 column 4 (char 3)"},
		"spec null":          {"", `{"nodes_specs": [null]}`, "nodes_specs[0]: none is not an allowed value"},
		"two mistakes":       {"", `{"tenant_id": [], "nodes_specs": [{"pool": "a", "quantity": 1}, {"quantity": -1}]}`, "tenant_id: value is not a valid integer; nodes_specs[1].quantity: ensure this value is greater than or equal to 1; nodes_specs[1].pool: field required"},
		"quantity beyond":    {"", `{"nodes_specs": [{"pool": "a", "quantity": 1e999}]}`, "nodes_specs[0].quantity: value is not a valid integer"},
		"quantity fraction":  {"", `{"nodes_specs": [{"pool": "a", "quantity": "1.5"}]}`, "nodes_specs[0].quantity: value is not a valid integer"},
		"quantity very low":  {"", `{"nodes_specs": [{"pool": "a", "quantity": -99999999999999999999}]}`, "nodes_specs[0].quantity: ensure this value is greater than or equal to 1"},
		"pool boolean":       {"", `{"nodes_specs": [{"pool": true, "quantity": 1}]}`, "nodes_specs[0].pool: str type expected"},
		"too deep":           {"", strings.Repeat("[", 20000), ""},
		"unterminated":       {"", `{"a": "b`, "body: Expecting value: line 1 column 9 (char 8)"},
		"utf-8 cut in two":   {"", "{\"a\": \"\xc3", ""},
		"control characters": {"", "{\"a\": \"\x01\"}", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			url := start(t, Config{Broker: newFake()})
			a := send(t, http.MethodPost, url+"/api/v1/sessions", test.body, func(r *http.Request) {
				asDemo(r)
				r.Header.Set("Content-Type", test.contentType)
				if test.contentType == "" {
					r.Header.Del("Content-Type")
				}
			})
			got := wireError(t, a)
			if a.status != http.StatusUnprocessableEntity || got.Code != "invalid" || len(got.Errors) == 0 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if test.detail != "" && got.Detail != test.detail {
				t.Errorf("detail %q, want %q", got.Detail, test.detail)
			}
		})
	}
	for _, contentType := range []string{"application/json; charset=utf-8", "application/vnd.api+json", "Application/JSON"} {
		if !isJSON(contentType) {
			t.Errorf("%s is no JSON", contentType)
		}
	}
}

func TestSessionUpdate(t *testing.T) {
	hour := &broker.Expiry{Delta: time.Hour}
	tests := map[string]struct {
		path, contentType, body string
		status                  int
		detail                  string
		want                    broker.SessionUpdate
	}{
		"nothing":         {body: `{}`, status: 200},
		"nulls":           {body: `{"active": null, "expires_at": null}`, status: 200},
		"stay":            {body: `{"active": true}`, status: 200},
		"retire":          {body: `{"active": false, "expires_at": null}`, status: 200, want: broker.SessionUpdate{Retire: true}},
		"retire by word":  {body: `{"active": "Off"}`, status: 200, want: broker.SessionUpdate{Retire: true}},
		"retire by zero":  {body: `{"active": 0}`, status: 200, want: broker.SessionUpdate{Retire: true}},
		"retire by 0.0":   {body: `{"active": 0.0}`, status: 200, want: broker.SessionUpdate{Retire: true}},
		"stay by one":     {body: `{"active": "1"}`, status: 200},
		"extend":          {body: `{"expires_at": "+1h"}`, status: 200, want: broker.SessionUpdate{Expires: hour}},
		"both":            {body: `{"active": false, "expires_at": "+1h"}`, status: 200, want: broker.SessionUpdate{Retire: true, Expires: hour}},
		"other word":      {body: `{"active": "maybe"}`, status: 422, detail: "active: value could not be parsed to a boolean"},
		"other number":    {body: `{"active": 2}`, status: 422, detail: "active: value could not be parsed to a boolean"},
		"list":            {body: `{"active": []}`, status: 422, detail: "active: value could not be parsed to a boolean"},
		"expires list":    {body: `{"expires_at": []}`, status: 422, detail: "expires_at: invalid type"},
		"bad id":          {path: "abc", body: `{"active": false}`, status: 422, detail: "id: value is not a valid integer"},
		"all wrong":       {path: "1.5", body: `{"active": "x", "expires_at": "x"}`, status: 422, detail: "id: value is not a valid integer; active: value could not be parsed to a boolean; expires_at: invalid datetime format; expires_at: invalid timedelta format"},
		"form":            {contentType: "application/x-www-form-urlencoded", body: `{"active": false}`, status: 422, detail: "body: field required"},
		"body is no dict": {body: `[]`, status: 422, detail: "body: field required"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			url := start(t, Config{Broker: f})
			if test.path == "" {
				test.path = "7"
			}
			a := send(t, http.MethodPut, url+"/api/v1/sessions/"+test.path, test.body, func(r *http.Request) {
				asDemo(r)
				r.Header.Set("Content-Type", test.contentType)
				if test.contentType == "" {
					r.Header.Set("Content-Type", "application/json")
				}
			})
			if a.status != test.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if test.status == 200 {
				if diff := cmp.Diff(test.want, f.update); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			} else if got := wireError(t, a).Detail; got != test.detail {
				t.Errorf("detail %q, want %q", got, test.detail)
			}
		})
	}
}

func TestParseExpiry(t *testing.T) {
	at := func(s string) broker.Expiry {
		parsed, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return broker.Expiry{At: parsed.UTC()}
	}
	in := func(d time.Duration) broker.Expiry { return broker.Expiry{Delta: d} }
	const day = 24 * time.Hour
	tests := []struct {
		value string // JSON
		want  broker.Expiry
		bad   bool
	}{
		{value: `"+1h"`, want: in(time.Hour)},
		{value: `"-30m"`, want: in(-30 * time.Minute)},
		{value: `"+1h 30m"`, want: in(90 * time.Minute)},
		{value: `" +10M "`, want: in(10 * time.Minute)},
		{value: `"+1500ms"`, want: in(1500 * time.Millisecond)},
		{value: `"+1w2d"`, want: in(9 * day)},
		{value: `"- 1w 1d 1h 1m 1s 1ms"`, want: in(-(8*day + time.Hour + time.Minute + time.Second + time.Millisecond))},
		{value: `"+0h"`, want: in(0)},
		{value: `"1w2d"`, bad: true},
		{value: `"1h"`, bad: true},
		{value: `"+"`, bad: true},
		{value: `"+ "`, bad: true},
		{value: `"+5y"`, bad: true},
		{value: `"+1m1h"`, bad: true}, // the larger unit first
		{value: `"+1.5h"`, bad: true},
		{value: `"+99999999999w"`, bad: true},
		{value: `"+99999999999999999999s"`, bad: true},
		{value: `"+15250w 1000d"`, bad: true}, // each fits, the sum does not
		{value: `"2090-01-01T00:00:00Z"`, want: at("2090-01-01T00:00:00Z")},
		{value: `"2090-01-01t00:00:00z"`, want: at("2090-01-01T00:00:00Z")},
		{value: `"2090-01-01T00:00:00+05:00"`, want: at("2089-12-31T19:00:00Z")},
		{value: `"2090-01-01T00:00:00-0130"`, want: at("2090-01-01T01:30:00Z")},
		{value: `"2090-01-01T00:00:00+05"`, want: at("2089-12-31T19:00:00Z")},
		{value: `"2090-01-01T00:00:00"`, want: at("2090-01-01T00:00:00Z")},
		{value: `"2090-01-01 00:00"`, want: at("2090-01-01T00:00:00Z")},
		{value: `"2090-1-1 1:2:3.5 +00:00"`, want: at("2090-01-01T01:02:03.5Z")},
		{value: `"2090-01-01T00:00:00.123456789Z"`, want: at("2090-01-01T00:00:00.123456Z")},
		{value: `"2090-01-01"`, bad: true},
		{value: `"2090-02-29T00:00:00Z"`, bad: true},
		{value: `"2090-13-01T00:00:00Z"`, bad: true},
		{value: `"2090-00-01T00:00:00Z"`, bad: true},
		{value: `"2090-01-01T24:00:00Z"`, bad: true},
		{value: `"2090-01-01T00:60:00Z"`, bad: true},
		{value: `"2090-01-01T00:00:00+24:00"`, bad: true},
		{value: `"0000-01-01T00:00:00Z"`, bad: true},
		{value: `"0001-01-01T00:00:00Z"`, want: at("0001-01-01T00:00:00.000000001Z")}, // never "relative"
		{value: `3786912000`, want: at("2090-01-01T00:00:00Z")},
		{value: `"3786912000"`, want: at("2090-01-01T00:00:00Z")},
		{value: `3786912000.25`, want: at("2090-01-01T00:00:00.25Z")},
		{value: `3786912000000`, want: at("2090-01-01T00:00:00Z")}, // milliseconds
		{value: `"+5"`, want: at("1970-01-01T00:00:05Z")},
		{value: `"-5.5"`, want: at("1969-12-31T23:59:54.5Z")},
		{value: `0`, want: at("1970-01-01T00:00:00Z")},
		{value: `true`, want: at("1970-01-01T00:00:01Z")},
		{value: `false`, want: at("1970-01-01T00:00:00Z")},
		{value: `"nan"`, bad: true},
		{value: `"inf"`, bad: true},
		{value: `1e999`, bad: true},
		{value: `"tomorrow"`, bad: true},
		{value: `""`, bad: true},
		{value: `[]`, bad: true},
		{value: `{}`, bad: true},
	}
	for _, test := range tests {
		t.Run(test.value, func(t *testing.T) {
			v, err := decode([]byte(test.value))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseExpiry(v)
			if test.bad {
				var body bodyError
				if !errors.As(err, &body) || body.hint == "" {
					t.Errorf("got %+v and error %v, want one with a hint", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	tests := []struct {
		loc  []any
		want string
	}{
		{[]any{"body"}, "body"},
		{[]any{"body", 17}, "body"},
		{[]any{"path", "id"}, "id"},
		{[]any{"body", "a", 0, "b"}, "a[0].b"},
	}
	for _, test := range tests {
		if got := place(test.loc); got != test.want {
			t.Errorf("place(%v) = %q, want %q", test.loc, got, test.want)
		}
	}
}

// FuzzSessionRequest: whatever the body, the answer is a sane request or an error
// that says what is wrong.
func FuzzSessionRequest(f *testing.F) {
	for _, seed := range []string{sessionBody, `{"tenant_id": "3", "nodes_specs": [{"quantity": 1.7}]}`, `{"nodes_specs": [`, `[]`, `null`, "\xff", `{"a":1e999}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decode(body)
		var req broker.SessionRequest
		if err == nil {
			object, _ := v.(map[string]any)
			req, err = parseSessionRequest(object)
		}
		if err != nil {
			checkBodyError(t, err)
			return
		}
		sum := 0
		for _, spec := range req.Specs {
			if spec.Quantity < 1 {
				t.Fatalf("quantity %d", spec.Quantity)
			}
			if sum += spec.Quantity; sum < 0 {
				t.Fatal("quantities overflow")
			}
		}
	})
}

// FuzzParseExpiry: an expiry is relative or absolute, and what is refused says so.
func FuzzParseExpiry(f *testing.F) {
	for _, seed := range []string{`"+1h 30m"`, `"2090-01-01T00:00:00+05:00"`, `3786912000`, `"-9223372036854775808ms"`, `true`, `1e300`, `"0001-01-01 00:00"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decode(body)
		if err != nil || v == nil {
			return
		}
		e, err := parseExpiry(v)
		if err != nil {
			checkBodyError(t, err)
			return
		}
		if !e.At.IsZero() && e.Delta != 0 {
			t.Fatalf("both at once: %+v", e)
		}
		if y := e.At.Year(); y < -1 || y > 10000 {
			t.Fatalf("year %d", y)
		}
	})
}

func checkBodyError(t *testing.T, err error) {
	t.Helper()
	status, answer := errorAnswer(err)
	if status != http.StatusUnprocessableEntity || answer.Detail == "" || len(answer.Errors) == 0 {
		t.Fatalf("%d %+v", status, answer)
	}
	for _, field := range answer.Errors {
		if len(field.Loc) == 0 || field.Msg == "" || field.Type == "" {
			t.Fatalf("%+v", field)
		}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	var back v1.Error
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
}
