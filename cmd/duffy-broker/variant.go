package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// withSources gives a pool with what its nodes are made from, with the variables of
// each variant. What is wrong for all of them is told once.
func withSources(p broker.Pool, sourceOf func(broker.Pool) (broker.Source, error)) (broker.Pool, []error) {
	if len(p.Variants) == 0 {
		source, err := sourceOf(p)
		if err != nil {
			return p, []error{err}
		}
		p.Source = source
		return p, nil
	}
	found := new(variantProblems)
	p.Variants = slices.Clone(p.Variants)
	for i, way := range p.Ways() {
		source, err := sourceOf(way)
		if err != nil {
			found.add(p.Variants[i].Name, err)
			continue
		}
		p.Variants[i].Source = source
	}
	p.Source = p.Variants[0].Source
	return p, found.errors(len(p.Variants))
}

// variantProblems are what is wrong with the variants of a pool.
type variantProblems struct {
	all      []error
	variants map[string][]string // that have a problem, by its text
}

func (f *variantProblems) add(variant string, err error) {
	if f.variants == nil {
		f.variants = make(map[string][]string)
	}
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // it is what Prepare gives
		problems = joined.Unwrap()
	}
	for _, problem := range problems {
		text := problem.Error()
		if len(f.variants[text]) == 0 {
			f.all = append(f.all, problem)
		}
		f.variants[text] = append(f.variants[text], variant)
	}
}

// errors gives the problems, each with the variants that have it unless all do.
func (f *variantProblems) errors(variants int) []error {
	for i, problem := range f.all {
		with := f.variants[problem.Error()]
		if len(with) == variants {
			continue
		}
		text := "variant " + strings.Join(with, ", ")
		if e, ok := problem.(*broker.Error); ok { //nolint:errorlint // an error around it would hide its hint
			e.Message = fmt.Sprintf("%s (%s)", e.Message, text)
			continue
		}
		f.all[i] = fmt.Errorf("%s: %w", text, problem)
	}
	return f.all
}
