package main

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"magent/bench/compare"
)

func newBench() *cobra.Command {
	return &cobra.Command{
		Use:                "bench [flags]",
		Short:              "Measure CPU per request beside nutcracker and other settings, in interleaved rounds",
		DisableFlagParsing: true, // the flags are bench's own
		RunE: func(_ *cobra.Command, args []string) error {
			given := func(a string) bool { return a == "--magent" || strings.HasPrefix(a, "--magent=") }
			if !slices.ContainsFunc(args, given) {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				args = append([]string{"--magent", self}, args...)
			}
			return compare.Main(args, os.Stdout)
		},
	}
}
