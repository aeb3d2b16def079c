package secret_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// duffyHash is a hash of duffyKey with version and cost as Duffy's have, made by
// another program than the one that is tested (libxcrypt).
const (
	duffyKey  = "ae6c10d0-0b13-554c-b976-a05d8a18f0cc"
	duffyHash = "$2b$12$0/HCCIr1DnhDqnzGvBlrTuoYnu1C3HugyW7dSZe82AkfMqrEoLtDq"
)

func TestBcrypt(t *testing.T) {
	var b secret.Bcrypt
	fast, err := bcrypt.GenerateFromPassword([]byte(duffyKey), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key, hash string
		want      bool
	}{
		{duffyKey, duffyHash, true},
		{duffyKey, string(fast), true},
		{strings.ToUpper(duffyKey), string(fast), false},
		{duffyKey + "x", string(fast), false},
		{"", string(fast), false},
		{strings.Repeat("x", 73), string(fast), false},
		{duffyKey, "", false},
		{duffyKey, duffyKey, false},
	} {
		if got := b.EqualImportedKey(test.key, []byte(test.hash)); got != test.want {
			t.Errorf("key %q with hash %q: %t", test.key, test.hash, got)
		}
	}
}

func TestBcryptCheck(t *testing.T) {
	fast, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ hash, want string }{
		"Duffy's":         {duffyHash, ""},
		"of Go":           {string(fast), ""},
		"of PHP":          {strings.Replace(duffyHash, "$2b$", "$2y$", 1), ""},
		"empty":           {"", "no bcrypt hash"},
		"a key":           {duffyKey, "no bcrypt hash"},
		"cut off":         {duffyHash[:59], "no bcrypt hash"},
		"too long":        {duffyHash + "x", "no bcrypt hash"},
		"a line more":     {duffyHash + "\n", "no bcrypt hash"},
		"another version": {strings.Replace(duffyHash, "$2b$", "$2x$", 1), "no bcrypt hash"},
		"wrong letters":   {duffyHash[:40] + "!" + duffyHash[41:], "no bcrypt hash"},
		"too cheap":       {strings.Replace(duffyHash, "$12$", "$03$", 1), "cost"},
		"too slow":        {strings.Replace(duffyHash, "$12$", "$15$", 1), "has cost 15: more than 14 takes too long"},
		"for ever":        {strings.Replace(duffyHash, "$12$", "$31$", 1), "has cost 31"},
	} {
		err := secret.Bcrypt{}.Check([]byte(test.hash))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err != nil && test.hash != "" && strings.Contains(err.Error(), test.hash) {
			t.Errorf("%s: the error shows the hash", name)
		}
		if test.want != "" && (secret.Bcrypt{}).EqualImportedKey(duffyKey, []byte(test.hash)) {
			t.Errorf("%s: a hash that is refused fits", name)
		}
	}
}
