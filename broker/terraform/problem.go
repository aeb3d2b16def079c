package terraform

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Problem is something wrong with the module of a pool, or with what the pool gives
// it. It has two places: one in the module, and what it is about in the pool, for
// which the caller knows the place.
type Problem struct {
	// Warning: the module is accepted all the same.
	Warning bool
	// Code is that of the error; "" for a warning.
	Code broker.Code
	// Summary names the kind of mistake in a few words.
	Summary string
	// Detail says what is wrong, without a full stop. "it" is the module.
	Detail string
	// Hint says what to do about it, or is "". It may have several lines.
	Hint string
	// ModuleRange is the place in the module, or the one where what is missing would
	// go. Its file name is relative to the module's directory and has slashes. Without
	// a file name there is no place.
	ModuleRange hcl.Range
	// Argument is the pool's argument that it is about: "module", "variables",
	// "credentials", "provider_sharing" or "follow".
	Argument string
	// Variable is the one among the pool's variables, or "".
	Variable string
	// Variant is the one of the pool's variants that has the problem, the first of
	// several; "" if all do, or there are none.
	Variant string
	// Missing: the pool does not say what it should, so Variable is not there.
	Missing bool
	// Secret: what the pool gives the variable must not be shown.
	Secret bool

	// Cause is behind Detail, or nil. Like the cause of a [broker.Error] it is for the
	// operator only.
	Cause error

	// quoted: Detail is HCL's or Terraform's, and goes on where Summary ends.
	quoted bool
}

// mistake makes an error about the module itself. at has a name relative to the
// module: see inModule.
func mistake(summary string, at hcl.Range, format string, args ...any) Problem {
	return Problem{Code: broker.CodeInvalid, Summary: summary, Detail: fmt.Sprintf(format, args...), ModuleRange: at, Argument: "module"}
}

func (p Problem) hint(format string, args ...any) Problem {
	p.Hint = fmt.Sprintf(format, args...)
	return p
}

// about says which of the pool's arguments a problem is about.
func (p Problem) about(argument string) Problem {
	p.Argument = argument
	return p
}

// quote says that the detail goes on where the summary ends.
func (p Problem) quote() Problem {
	p.quoted = true
	return p
}

// with says what caused an error, and which code it has for that.
func (p Problem) with(code broker.Code, cause error) Problem {
	p.Code, p.Cause = code, cause
	return p
}

// String says what is wrong in one line, with the place in the module.
func (p Problem) String() string {
	text := p.Detail
	if p.quoted {
		text = strings.TrimSuffix(p.Summary+": "+p.Detail, ": ")
	}
	if p.ModuleRange.Filename == "" {
		return text
	}
	return fmt.Sprintf("%s:%d: %s", p.ModuleRange.Filename, p.ModuleRange.Start.Line, text)
}

// ModuleError says why the module of a pool is not accepted. It unwraps to one
// [broker.Error] for each problem.
type ModuleError struct {
	Pool, Module string
	// Problems has one element at least, and no warnings.
	Problems []Problem
}

// Error lists all problems, each in a line of its own.
func (e *ModuleError) Error() string { return errors.Join(e.Unwrap()...).Error() }

// Unwrap gives the problems as errors.
func (e *ModuleError) Unwrap() []error {
	all := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = &broker.Error{
			Code:    p.Code,
			Message: fmt.Sprintf("pool %q: module %s: %s", e.Pool, e.Module, p),
			Hint:    p.Hint,
			Err:     p.Cause,
		}
	}
	return all
}

// syntaxProblems gives what HCL or Terraform's language is not.
func syntaxProblems(root string, diags hcl.Diagnostics) []Problem {
	var problems []Problem
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		var at hcl.Range
		if d.Subject != nil {
			at = inModule(root, *d.Subject)
		}
		problems = append(problems, mistake(d.Summary, at, "%s", d.Detail).quote())
	}
	return problems
}
