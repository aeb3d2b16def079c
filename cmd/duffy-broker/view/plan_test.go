package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// largePlan changes many pools.
func largePlan(pools int) plan.Plan {
	p := plan.Plan{ID: "0123456789abcdef", At: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Summary: plan.Summary{Changed: pools, StockDestroyed: 1}}
	for i := range pools {
		p.Pools = append(p.Pools, plan.Pool{
			Name: fmt.Sprint("pool-", i), Kind: plan.Changed,
			Fields: []plan.Field{{Name: "description", Old: json.RawMessage(`"ä"`), New: json.RawMessage(`"` + strings.Repeat("ö", 50) + `"`)}},
		})
	}
	return p
}

func markdown(t *testing.T, p plan.Plan, most int) string {
	t.Helper()
	var b bytes.Buffer
	if err := Plan(&b, p, PlanOptions{Format: Markdown, MaxSize: most}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A comment has a limit. What matters most, the end, is always there, and the
// marker by which the comment is found again.
func TestPlanMarkdownFits(t *testing.T) {
	for _, pools := range []int{0, 1, 5, 100, 1000} {
		for _, most := range []int{minMarkdown, 10_000, 65_000, 0} {
			text := markdown(t, largePlan(pools), most)
			if most > 0 && len(text) > most {
				t.Errorf("%d pools are %d bytes, more than %d", pools, len(text), most)
			}
			if !strings.HasPrefix(text, PlanMarker+"\n") || !strings.HasSuffix(text, fmt.Sprintf("**Plan `0123456789abcdef`: pools: %d changed.**\n", pools)) && pools > 0 {
				t.Errorf("%d pools in %d bytes lack the beginning or the end:\n%.200s\n...\n%s", pools, most, text, text[max(0, len(text)-200):])
			}
			if !utf8.ValidString(text) {
				t.Errorf("%d pools in %d bytes are cut within a letter", pools, most)
			}
			if last := fmt.Sprintf("pool pool-%d changes", pools-1); most != minMarkdown && pools > 0 && !strings.Contains(text, last) {
				t.Errorf("%d pools in %d bytes lack the last one", pools, most)
			}
		}
	}
	text := markdown(t, largePlan(1000), 65_000)
	if !strings.Contains(text, "left out: there is no room for more") || strings.Contains(text, "pool pool-0 changes") {
		t.Error("what is left out is not the start, or not told")
	}
	// One that is too long by its head alone.
	p := largePlan(1)
	for range 200 {
		p.Policy = append(p.Policy, plan.PolicyResult{Rule: "r", Deny: true, Message: strings.Repeat("ü", 100)})
	}
	if text := markdown(t, p, 5000); len(text) > 5000 || !utf8.ValidString(text) || !strings.HasPrefix(text, PlanMarker) || !strings.HasSuffix(text, "**\n") {
		t.Errorf("%d bytes: %.100s ... %s", len(text), text, text[max(0, len(text)-100):])
	}
}

// Nothing that a file says can become markup, a link, or a call for somebody.
func TestPlanMarkdownEscapes(t *testing.T) {
	p := largePlan(1)
	evil := "</details><script> **b** | `c` @all #1 [x](http://x) \x1b[2J\nnext"
	raw, err := json.Marshal(evil)
	if err != nil {
		t.Fatal(err)
	}
	p.Pools[0].Fields = []plan.Field{{Name: "variables.x", New: raw}}
	p.Policy = []plan.PolicyResult{{Rule: evil, Message: evil}}
	text := markdown(t, p, 0)
	for _, bad := range []string{"<script", "**b**", "`c`", "@all", "[x](", "http://x", "\x1b"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q comes through:\n%s", bad, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| variables.x") || strings.HasPrefix(line, "| variables&") {
			if n := strings.Count(line, "|"); n != 4 {
				t.Errorf("the row has %d bars: %s", n, line)
			}
		}
	}
}

func TestPlanColors(t *testing.T) {
	var plainText, colored bytes.Buffer
	p := largePlan(1)
	if err := Plan(&plainText, p, PlanOptions{Format: Text}); err != nil {
		t.Fatal(err)
	}
	if err := Plan(&colored, p, PlanOptions{Format: Text, Color: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plainText.String(), "\x1b") || !strings.Contains(colored.String(), red) {
		t.Errorf("colours: %q and %q", plainText.String(), colored.String())
	}
	without := colored.String()
	for _, code := range []string{red, green, yellow, bold, plain} {
		without = strings.ReplaceAll(without, code, "")
	}
	if without != plainText.String() {
		t.Errorf("without colours it is another text:\n%s\n%s", without, plainText.String())
	}
}

func TestCheckPlan(t *testing.T) {
	for _, o := range []PlanOptions{{Format: "yaml"}, {Format: ""}, {Format: Markdown, MaxSize: 100}, {Format: Markdown, MaxSize: -1}} {
		if err := CheckPlan(o); broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("%+v: %v, want invalid", o, err)
		}
	}
}

func TestSequence(t *testing.T) {
	for _, test := range []struct {
		list []int64
		want string
	}{
		{nil, ""},
		{[]int64{7}, "7"},
		{[]int64{1, 2}, "1, 2"},
		{[]int64{1, 2, 3, 9, 8, 10, 11, 12}, "1-3, 9, 8, 10-12"},
		{[]int64{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}, "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, and 2 more"},
	} {
		if got := sequence(test.list); got != test.want {
			t.Errorf("sequence(%v) = %q, want %q", test.list, got, test.want)
		}
	}
}
