package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

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
	text       []byte        // of the file, as it was read last
}

// read is what the command line and the file come to.
func (o *orders) read() (*file.Settings, error) {
	if o.flags.File == "" {
		return file.FromFlags(o.flags, o.line)
	}
	text, err := readFile(o.path())
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	o.text = text
	return file.Read(o.flags.File, text, o.line)
}

// path is that of the file, in any directory once orders are settled.
func (o *orders) path() string {
	if filepath.IsAbs(o.flags.File) {
		return o.flags.File
	}
	return filepath.Join(o.directory, o.flags.File)
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

// leaveTerminal does what needs no descriptor for that. HUP asks for a reload where there is a file.
func (o *orders) leaveTerminal() error {
	if o.flags.File == "" {
		signal.Ignore(syscall.SIGHUP)
	}
	return os.Chdir("/")
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
