package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Place is what a flag is about.
type Place int

const (
	OfProcess Place = iota // beside a file, it wins
	OfPool                 // a file has it in each pool
	OfLine                 // of listeners and nodes, for which a file has words of its own
)

// About says what f is about.
func About(f *pflag.Flag) Place {
	line, pool := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	new(Flags).bindLine(line)
	p := DefaultPool()
	BindPool(pool, &p)
	switch {
	case line.Lookup(f.Name) != nil:
		return OfLine
	case pool.Lookup(f.Name) != nil:
		return OfPool
	}
	return OfProcess
}

// InFile reports whether a file may say f, which is of the process.
func InFile(f *pflag.Flag) bool {
	return !f.Hidden && !slices.Contains(strings.Fields("config print-config help"), f.Name)
}
