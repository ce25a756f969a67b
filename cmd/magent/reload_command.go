package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReload() *cobra.Command {
	var a adminFlags
	cmd := &cobra.Command{
		Use:   "reload [flags]",
		Short: "Have a running magent put in force what its configuration file says by now",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Reload(cmd.Context()); err != nil {
				return err
			}
			fmt.Println("what the file says is in force")
			return nil
		},
	}
	a.bind(cmd)
	return cmd
}
