package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newResync() *cobra.Command {
	var a adminFlags
	from := ""
	cmd := &cobra.Command{
		Use:   "resync NODE --from NODE [flags]",
		Short: "Have a running magent refill a node from another",
		Args:  oneNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" {
				return errors.New("--from must say which node holds what " + args[0] + " is to get")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.Resync(cmd.Context(), args[0], from); err != nil {
				return err
			}
			fmt.Printf("%s is being refilled from %s: magent status says how far it is\n", args[0], from)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the `node` to copy from")
	a.bind(cmd)
	return cmd
}

// oneNode wants a node's name, as in magent status, for the only argument.
func oneNode(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("say which node, by its name in magent status")
	case 1:
		return nil
	}
	return fmt.Errorf("unexpected argument %q", args[1])
}
