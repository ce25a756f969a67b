// Command magent is a memcached proxy that turns plain memcacheds into one
// highly available cache. With flags alone it is magent 0.6's command line; the
// subcommands are one file each. This package only binds flags, settles what
// belongs to the process (background, user, limits, signals, profiles) and
// starts magent/server; all of it runs on the main goroutine. It may import
// anything.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"magent/server/config"
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and gives the exit status: 0, or 1 after a
// message on standard error, every fault a line.
func run(args []string) int {
	root := newRoot()
	// The old flags reach cobra under a command's name, for it would take the
	// value in "-Dn 51200" for one.
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"start"}, args...)
	}
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if said, ok := err.(exitStatus); ok {
		return int(said)
	}
	complain(err.Error())
	return 1
}

// exitStatus is the error of a command whose message is already written.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// complain writes text to standard error, each line under the program's name.
func complain(text string) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		fmt.Fprintln(os.Stderr, "magent: "+line)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:                "magent",
		SilenceUsage:       true,
		SilenceErrors:      true,
		Args:               unknownCommand,
		RunE:               func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions:  cobra.CompletionOptions{DisableDefaultCmd: true},
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}, // the command is what is unknown
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return config.Explain(err) })
	start, serve, ha, imports := newStart(), newServe(), newHA(), newImport()
	root.AddCommand(start, serve, newDemo(), newBench(), newFailover(), newStatus(), newEvents(), newReady(), newDrain(), newResync(), newExplain(), newDiff(), newTop(), ha, newVersion(), newFaults())
	root.AddCommand(newCheck(), newReload(), imports, newFileHelp())
	for _, c := range slices.Concat(root.Commands(), ha.Commands(), imports.Commands()) {
		if !c.DisableFlagParsing && c.Flags().Lookup("help") == nil {
			c.Flags().BoolP("help", "h", false, "print this")
		}
	}
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		switch {
		case cmd == root, cmd == start, cmd == serve:
			fmt.Printf(overview, usages(start))
		case cmd == ha:
			fmt.Print(aboutHA)
		case !cmd.Runnable(): // a topic
			fmt.Print(cmd.Long)
		default:
			fmt.Printf("%s.\n\n  %s\n\n%s", cmd.Short, cmd.UseLine(), usages(cmd))
		}
	})
	return root
}

// usages lists the flags of cmd. pflag says of every switch that it may be given
// a value; blanks in its place keep the columns.
func usages(cmd *cobra.Command) string {
	text := cmd.LocalFlags().FlagUsagesWrapped(100)
	return strings.ReplaceAll(text, "[=true|false]", strings.Repeat(" ", 13))
}

func unknownCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("there is no command %q: see magent help", args[0])
	}
	return nil
}

// noArguments refuses what is left of a command line after its flags.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

const overview = `magent makes plain memcacheds one highly available cache: every write goes to a
primary (-s) and a backup (-b), reads move to the backup when the primary fails.

  magent -s host:port -b host:port [flags]   serve in the background, as magent 0.6 does
  magent serve -s host:port ...              the same in the foreground
  magent --config FILE                       the same for what a file says: several pools, prefixes
  magent check FILE                          all that is wrong with such a file
  magent reload                              have a running magent put in force what its file says
  magent import twemproxy|mcrouter FILE      the file that does what another program's does
  magent demo                                two built-in nodes and a proxy on 127.0.0.1:12000
  magent bench                               make load, check every answer, say what it cost
  magent failover                            have something fail under load, say what clients saw
  magent status                              how a running magent and its nodes are
  magent events                              what has changed there: nodes, failovers, refills
  magent ready                               exit with 0 if a running magent serves, with 1 if not
  magent drain NODE                          no reads from a node any more, so that it can be stopped
  magent resync NODE --from NODE             refill a node from another
  magent explain KEY                         where a key is, and what each node holds of it
  magent diff                                compare the copies of keys, and mend what differs
  magent top                                 which keys are asked for most, and who asks most
  magent ha init                             write what two machines that share an address need
  magent ha check                            verify one of them, and say what mends it
  magent ha failover                         give the virtual address up, to the other machine
  magent ha resume                           be ready for it again
  magent version                             version, commit, Go version
  magent help [command]
  magent help file                           what a configuration file may say
  magent help faults                         how a node of magent demo may fail
  magent help ha                             two machines and a virtual address

Flags of magent and of magent serve:
%s`
