package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newDrain() *cobra.Command {
	var a adminFlags
	undo := false
	cmd := &cobra.Command{
		Use:   "drain NODE [--undo] [flags]",
		Short: "Have a running magent read nothing from a node any more, so that it can be stopped",
		Args:  oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Drain(cmd.Context(), args[0], !undo); err != nil {
				return err
			}
			said := "%s is drained: it is written, and not read\n"
			if undo {
				said = "%s is no longer drained\n"
			}
			fmt.Printf(said, args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "drain it no longer")
	a.bind(cmd)
	return cmd
}
