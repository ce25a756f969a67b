package bench

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"magent/bench/compare"
)

const compareLong = `Measure what magent costs beside other proxies, and in other settings: CPU per request, rate and
latency over the standard workloads. Each round measures both sides of a pair, one right after
the other, each proxy pinned the same way; the figures are medians with the smallest and the
largest round. BENCHMARKS.md says what they show and what they do not.

The exit status is 0; 1 if a run had errors or wrong values, or a bound was missed by more than
--gate; 130 if Ctrl-C ended it, and then what was measured so far is reported all the same.`

const compareExample = `  magent bench compare --rounds 5 --workloads get-c50,mixed-c1000
      two workloads, five rounds of each
  magent bench compare --before ./magent-1.0 --theirs before
      what a change of magent costs
  magent bench compare --rival other=12001:4711
      another proxy, which runs already`

func newCompare(self string) *cobra.Command {
	o := compare.Options{Self: self}
	cmd := &cobra.Command{
		Use:     "compare [flags]",
		Short:   "measure magent beside other proxies and settings, in interleaved rounds",
		Long:    compareLong,
		Example: compareExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return interruptibly(cmd.Context(), func(ctx context.Context) error {
				return ended(ctx, o.Run(ctx, cmd.OutOrStdout()), nil)
			})
		},
	}
	o.Bind(cmd.Flags())
	withHelp(cmd, newFlags(cmd.Flags()))
	return cmd
}

const reportLong = `Write the tables and plots of BENCHMARKS.md, or of another document, from the raw results that
it names, or of other results from now on.`

const reportExample = `  magent bench report
      whatever is not as the results have it
  magent bench report --results bench/results/20261129T064023-e1661be49556
      and of a new comparison, where that has what a block shows`

func newReport() *cobra.Command {
	var results string
	cmd := &cobra.Command{
		Use:     "report [flags] [BENCHMARKS.md]",
		Short:   "write the tables and plots of BENCHMARKS.md from raw results",
		Long:    reportLong,
		Example: reportExample,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			document := "BENCHMARKS.md"
			if len(args) > 0 {
				document = args[0]
			}
			moved, err := compare.Report(document, results)
			for _, block := range moved {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is of %s now\n", block, results)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&results, "results", "", "`directory` of a comparison that the blocks shall be of from now on, where it has the rows they show")
	withHelp(cmd, newFlags(cmd.Flags()))
	return cmd
}
