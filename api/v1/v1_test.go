package v1

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTime(t *testing.T) {
	east := time.FixedZone("", 3600)
	tests := map[string]struct {
		at   time.Time
		want string
	}{
		"micros":      {time.Date(2026, 11, 23, 17, 32, 29, 383593000, time.UTC), `"2026-11-23T17:32:29.383593+00:00"`},
		"few digits":  {time.Date(2026, 11, 23, 17, 32, 29, 380000000, time.UTC), `"2026-11-23T17:32:29.380000+00:00"`},
		"none":        {time.Date(2026, 11, 23, 17, 32, 29, 0, time.UTC), `"2026-11-23T17:32:29+00:00"`},
		"nanos only":  {time.Date(2026, 11, 23, 17, 32, 29, 999, time.UTC), `"2026-11-23T17:32:29+00:00"`},
		"cut, not up": {time.Date(2026, 11, 23, 17, 32, 29, 999999999, time.UTC), `"2026-11-23T17:32:29.999999+00:00"`},
		"other zone":  {time.Date(2026, 11, 23, 18, 32, 29, 0, east), `"2026-11-23T17:32:29+00:00"`},
		"zero":        {time.Time{}, `null`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := json.Marshal(Time{test.at})
			if err != nil || string(got) != test.want {
				t.Fatalf("got %s, %v; want %s", got, err, test.want)
			}
			var back Time
			if err := json.Unmarshal(got, &back); err != nil || !back.Equal(test.at.Truncate(time.Microsecond)) {
				t.Errorf("read back as %v, %v", back, err)
			}
		})
	}
	var at Time
	if err := json.Unmarshal([]byte(`"2026-11-23T17:32:29.5Z"`), &at); err != nil || at.Nanosecond() != 5e8 {
		t.Errorf("newest Duffy's form: %v, %v", at, err)
	}
	for _, bad := range []string{`1`, `"soon"`, `{}`} {
		if err := json.Unmarshal([]byte(bad), &at); err == nil {
			t.Errorf("%s was read as %v", bad, at)
		}
	}
}

func TestSeconds(t *testing.T) {
	for want, s := range map[string]time.Duration{"21600.0": 6 * time.Hour, "0.5": time.Second / 2, "0.0": 0, "-1.0": -time.Second} {
		got, err := json.Marshal(Seconds(s))
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
		var back Seconds
		if err := json.Unmarshal(got, &back); err != nil || time.Duration(back) != s {
			t.Errorf("%s read back as %v, %v", got, back, err)
		}
	}
	var s Seconds
	if err := json.Unmarshal([]byte("43200"), &s); err != nil || time.Duration(s) != 12*time.Hour {
		t.Errorf("newest Duffy's form: %v, %v", s, err)
	}
	if err := json.Unmarshal([]byte(`"x"`), &s); err == nil {
		t.Error("text was read")
	}
}
