package v1

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Time is a point in time, written as Python's isoformat does: in UTC with a
// numeric offset, and with six digits of microseconds, or none when they are
// zero. The zero Time is null.
type Time struct{ time.Time }

// MarshalJSON writes the time, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	u := t.UTC().Truncate(time.Microsecond)
	layout := `"2006-01-02T15:04:05.000000-07:00"`
	if u.Nanosecond() == 0 {
		layout = `"2006-01-02T15:04:05-07:00"`
	}
	return u.AppendFormat(nil, layout), nil
}

// UnmarshalJSON reads null, or a time with an offset or a Z.
func (t *Time) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*t = Time{}
		return nil
	}
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("time %s is not a string", b)
	}
	t.Time, err = time.Parse(time.RFC3339Nano, s)
	return err
}

// Seconds is a length of time, written as a number of seconds with a fraction,
// as Python writes floats: 21600.0.
type Seconds time.Duration

// MarshalJSON writes the seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(time.Duration(s).Seconds(), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return []byte(text), nil
}

// UnmarshalJSON reads a number of seconds; null leaves it as it is.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("%s is not a number of seconds", b)
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}
