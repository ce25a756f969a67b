package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"magent/bench/compare"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a request costs, beside other proxies and settings",
		Long: `magent bench compare   interleaved rounds beside nutcracker, memcached itself and other settings
magent bench report    write the tables and plots of BENCHMARKS.md from raw results
`,
	}
	c.AddCommand(newCompare(), newReport())
	return c
}

func newCompare() *cobra.Command {
	var o compare.Options
	c := &cobra.Command{
		Use:   "compare [flags]",
		Short: "Measure CPU per request beside nutcracker and other settings, in interleaved rounds",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Self, err = os.Executable(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
			defer stop()
			return o.Run(ctx, c.OutOrStdout())
		},
	}
	o.Bind(c.Flags())
	return c
}

func newReport() *cobra.Command {
	var results string
	c := &cobra.Command{
		Use:   "report [flags] [BENCHMARKS.md]",
		Short: "Write the tables and plots of BENCHMARKS.md from raw results",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			doc := "BENCHMARKS.md"
			if len(args) > 0 {
				doc = args[0]
			}
			moved, err := compare.Report(doc, results)
			for _, block := range moved {
				fmt.Fprintf(c.OutOrStdout(), "%s is of %s now\n", block, results)
			}
			return err
		},
	}
	c.Flags().StringVar(&results, "results", "", "`directory` of a comparison that the blocks shall be of from now on, where it has the rows they show")
	return c
}
