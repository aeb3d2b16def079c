package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// withSources gives a pool with what its nodes are made from, with the variables of
// each variant. What is wrong for several of them is told once.
func withSources(p broker.Pool, sourceOf func(broker.Pool) (broker.Source, error)) (broker.Pool, error) {
	if len(p.Variants) == 0 {
		source, err := sourceOf(p)
		p.Source = source
		return p, err
	}
	found := new(variantProblems)
	p.Variants = slices.Clone(p.Variants)
	for i, way := range p.Ways() {
		source, err := sourceOf(way)
		var refused *terraform.ModuleError
		switch {
		case errors.As(err, &refused):
			found.add(way, refused.Problems)
		case err != nil:
			return p, fmt.Errorf("variant %s: %w", p.Variants[i].Name, err)
		}
		p.Variants[i].Source = source
	}
	p.Source = p.Variants[0].Source
	if problems := found.problems(len(p.Variants)); len(problems) > 0 {
		return p, &terraform.ModuleError{Pool: p.Name, Module: p.Module, Problems: problems}
	}
	return p, nil
}

// ofVariant gives a pool as its variant of that name makes nodes; itself for "".
func ofVariant(p broker.Pool, variant string) broker.Pool {
	if way, ok := p.As(variant); ok {
		return way
	}
	return p
}

// variantProblems are what is wrong with a pool's module, by the variants that have
// the problem.
type variantProblems struct {
	all      []terraform.Problem
	variants map[string][]string // by the problem's key
}

// add notes what is wrong with one of the ways of a pool.
func (f *variantProblems) add(way broker.Pool, problems []terraform.Problem) {
	if f.variants == nil {
		f.variants = make(map[string][]string)
	}
	name := ""
	if len(way.Variants) > 0 {
		name = way.Variants[0].Name
	}
	for _, p := range problems {
		key := problemKey(p)
		if len(f.variants[key]) == 0 {
			f.all = append(f.all, p)
		}
		if !slices.Contains(f.variants[key], name) {
			f.variants[key] = append(f.variants[key], name)
		}
	}
}

// problems gives them all, each with the variants that have it unless all do.
func (f *variantProblems) problems(variants int) []terraform.Problem {
	for i := range f.all {
		p := &f.all[i]
		with := f.variants[problemKey(*p)]
		if variants == 0 || len(with) == variants {
			continue
		}
		p.Variant = with[0]
		p.Detail = strings.TrimSpace(fmt.Sprintf("%s (variant %s)", p.Detail, strings.Join(with, ", ")))
	}
	return f.all
}

func problemKey(p terraform.Problem) string {
	return fmt.Sprintf("%q %q %q %v %q %q %v", p.Summary, p.Detail, p.Hint, p.ModuleRange, p.Argument, p.Variable, p.Cause)
}
