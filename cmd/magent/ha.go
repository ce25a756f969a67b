package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newHA is the commands about the virtual address of two machines.
func newHA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ha",
		Short: "Set up two machines with a virtual address, and give it up",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no magent ha %s: there are init, check, failover and resume", args[0])
			}
			return nil
		},
		Run: func(cmd *cobra.Command, _ []string) { cmd.Help() },
	}
	cmd.AddCommand(newHAInit(), newHACheck(), newHAFailover(), newHAResume())
	return cmd
}

const aboutHA = `Two machines run magent, and a virtual address stands on one of them. keepalived
moves it: each machine asks its magent whether it is ready, several times a second,
and one that is not has the address taken away.

  magent ha init                 write what keepalived, systemd and monit need, on each;
                                 without -s and -b both machines run a memcached
  magent ha check                verify a machine, and say what mends it
  magent ready [--warm]          exit with 0 if clients are served here, with 1 and the
                                 reason if not; --warm: and all nodes are up
  magent ha failover [--leave]   be not ready until --vip has left this machine, at most
                                 --handover-wait; then stay, not ready, or leave
  magent ha resume               be ready again

A magent that is told to stop (TERM, INT) gives the address up first.
-p PORT or --admin WHERE say which magent of this machine is asked.
`

func newHAFailover() *cobra.Command {
	var a adminFlags
	leave := false
	cmd := &cobra.Command{
		Use:   "failover [--leave] [flags]",
		Short: "Have a running magent give its virtual address up, and wait until it has left",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Failover(cmd.Context(), leave); err != nil {
				return err
			}
			if leave {
				fmt.Println("the address has left this machine, and so does this magent")
			} else {
				fmt.Println("the address has left this machine: this magent is not ready until magent ha resume")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&leave, "leave", false, "end the magent then, as TERM does")
	a.bind(cmd)
	return cmd
}

func newHAResume() *cobra.Command {
	var a adminFlags
	cmd := &cobra.Command{
		Use:   "resume [flags]",
		Short: "Have a running magent be ready again after magent ha failover",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Resume(cmd.Context()); err != nil {
				return err
			}
			fmt.Println("this magent takes the address again when it is given it")
			return nil
		},
	}
	a.bind(cmd)
	return cmd
}
