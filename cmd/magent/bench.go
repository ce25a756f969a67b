package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"magent/bench"
	"magent/server/config"
)

func newBench() *cobra.Command {
	cmd := bench.NewCommand(ourselves())
	profiled(cmd)
	return judging(cmd)
}

// ourselves is the path of this program, empty if the system does not tell.
func ourselves() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}

// judging gives cmd, and those below it, the exit status of a program that Ctrl-C ended.
func judging(cmd *cobra.Command) *cobra.Command {
	for _, c := range append(cmd.Commands(), cmd) {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			if !errors.Is(err, bench.ErrInterrupted) {
				return err
			}
			complain(err.Error())
			return exitStatus(130)
		}
	}
	return cmd
}

// profiled gives cmd the flags of a profile, as magent serve has them.
func profiled(cmd *cobra.Command) {
	var kind, dir string
	known := config.Profiles()
	cmd.Flags().StringVar(&kind, "profile", "", "write a profile of this `kind` at exit: "+strings.Join(known, ", "))
	cmd.Flags().StringVar(&dir, "profile-dir", ".", "write profiles to the directory at this `path`")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if kind != "" && !slices.Contains(known, kind) {
			return fmt.Errorf("--profile %s is not known, known are %s", kind, strings.Join(known, ", "))
		}
		stop, err := startProfile(kind, dir)
		if err != nil {
			return err
		}
		defer stop()
		return run(cmd, args)
	}
}
