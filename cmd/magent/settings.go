package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"magent/server/config"
	"magent/server/config/file"
)

// orders is the command line of a process that serves: what it was told, and, of a file that
// it names, what it is told whenever that is read.
type orders struct {
	line       *pflag.FlagSet
	flags      *config.Flags // that line was parsed into
	foreground bool          // the command is one that stays there
	directory  string        // where relative paths go from; empty: the one that directory says
}

// read is what the command line and the file come to.
func (o *orders) read() (*file.Settings, error) {
	if o.flags.File == "" {
		return file.FromFlags(o.flags, o.line)
	}
	text, err := readFile(o.path(o.flags.File))
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	return file.Read(o.flags.File, text, o.line)
}

// path is p from the directory that relative paths go from.
func (o *orders) path(p string) string {
	if filepath.IsAbs(p) || o.directory == "" {
		return p
	}
	return filepath.Join(o.directory, p)
}

// settle is the same with paths that hold in any directory: a process in the background leaves
// this one.
func (o *orders) settle() (*file.Settings, error) {
	if o.directory == "" {
		dir, err := directory()
		if err != nil {
			return nil, err
		}
		o.directory = dir
	}
	s, err := o.read()
	if err != nil {
		return nil, err
	}
	if o.foreground {
		s.Flags.Foreground = true
	}
	s.MakeAbsolute(o.directory)
	return s, nil
}

// print prints the file that says the same.
func (o *orders) print() error {
	s, err := o.read()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(s.Text())
	return err
}

// readFile reads a configuration; of what is too large for one, enough to tell.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, file.MaxSize+1))
}
