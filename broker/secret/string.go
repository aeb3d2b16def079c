package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what is seen of every secret, whatever its length.
const redacted = "**********"

// String is a secret that prints, logs and marshals as asterisks. The value
// comes out by conversion only: string(s).
type String string

// String gives asterisks.
func (String) String() string { return redacted }

// Format writes asterisks for every verb; fmt would show the value for some.
func (String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue gives asterisks.
func (String) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON gives asterisks.
func (String) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText gives asterisks, for encoders other than JSON's.
func (String) MarshalText() ([]byte, error) { return []byte(redacted), nil }
