package broker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Whoever is told of a conflict is told what to do: each has a hint where it is made.
func TestConflictsHaveHints(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"*.go", "terraform/*.go", "reconcile/*.go", "ssh/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	conflicts, fset := 0, token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		hinted := make(map[ast.Node]bool)
		ast.Inspect(file, func(n ast.Node) bool { // what is called with WithHint comes first
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "WithHint" {
				hinted[method.X] = true
			}
			if isConflict(call) {
				if conflicts++; !hinted[call] {
					t.Errorf("%s: a conflict without a hint", fset.Position(call.Pos()))
				}
			}
			return true
		})
	}
	if conflicts < 15 {
		t.Errorf("%d conflicts found: are they made in another way?", conflicts)
	}
	if broker.HintOf(&broker.TransitionError{Object: "node 1", From: "ready", To: "planned"}) == "" {
		t.Error("a transition that is not allowed has no hint")
	}
}

// isConflict tells whether a call is Errorf(CodeConflict, ...) or Wrap(CodeConflict, ...).
func isConflict(call *ast.CallExpr) bool {
	name := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			return e.Sel.Name
		}
		return ""
	}
	f := name(call.Fun)
	return (f == "Errorf" || f == "Wrap") && len(call.Args) > 0 && name(call.Args[0]) == "CodeConflict"
}
