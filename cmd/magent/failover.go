package main

import (
	"github.com/spf13/cobra"

	"magent/bench"
)

func newFailover() *cobra.Command { return judging(bench.NewFailover(ourselves())) }
