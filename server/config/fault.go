package config

import (
	"errors"
	"fmt"
)

// Fault is what is wrong with one field, for who can say where that is written.
type Fault struct {
	Pool string // whose field it is; empty: the process's
	// Field is as the flag is called, or copies.I, or listen.I; empty: it is the pool as such.
	Field string
	err   error
}

func (f *Fault) Error() string { return f.err.Error() }

// Unwrap gives what it was made of.
func (f *Fault) Unwrap() error { return f.err }

// at is a fault of field.
func at(field, format string, args ...any) error {
	return &Fault{Field: field, err: fmt.Errorf(format, args...)}
}

// in is err as one of the pool p.
func (c *Config) in(p *Pool, err error) error {
	f := &Fault{Pool: p.Name, err: fmt.Errorf("%s%w", c.Of(p), err)}
	if inner, ok := errors.AsType[*Fault](err); ok {
		f.Field = inner.Field
	}
	return f
}
