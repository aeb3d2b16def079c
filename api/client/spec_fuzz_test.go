package client

import (
	"fmt"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// FuzzNodesSpec: a spec is one that can be asked for and is read again as the
// same; what is refused says what is wrong and how to write it.
func FuzzNodesSpec(f *testing.F) {
	for _, seed := range []string{"pool=a,quantity=2", "quantity=1,pool=b=c", " pool = a , quantity = 7 ", "pool=a", "pool=a,quantity=0", "pool=a,pool=b", "pool=,quantity=99999999999999999999", "=,=", ",", "quantity=+1,pool=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		spec, err := ParseNodesSpec(arg)
		if err != nil {
			if broker.CodeOf(err) != broker.CodeInvalid || broker.HintOf(err) == "" || broker.MessageOf(err) == "" {
				t.Fatalf("%v, hint %q", err, broker.HintOf(err))
			}
			return
		}
		if spec.Pool == "" || spec.Quantity < 1 || strings.Contains(spec.Pool, ",") {
			t.Fatalf("%q is %+v", arg, spec)
		}
		again, err := ParseNodesSpec(fmt.Sprintf("quantity=%d,pool=%s", spec.Quantity, spec.Pool))
		if err != nil || again != spec {
			t.Fatalf("%q is %+v, and that is %+v, %v", arg, spec, again, err)
		}
	})
}
