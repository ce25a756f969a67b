package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// defaultReadyTimeout is below the 200 ms in which keepalived asks anew.
const defaultReadyTimeout = 150 * time.Millisecond

func newReady() *cobra.Command {
	var a adminFlags
	timeout, warm := defaultReadyTimeout, false
	cmd := &cobra.Command{
		Use:   "ready [flags]",
		Short: "Exit with 0 if a running magent serves clients, and with 1 if it does not",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			r, err := c.Ready(ctx)
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				return fmt.Errorf("not ready: no answer in %v", timeout)
			case err != nil:
				return fmt.Errorf("not ready: %w", err)
			case !r.Ready:
				return errors.New("not ready: " + r.Why(false))
			case warm && !r.Warm:
				return errors.New("not warm: " + r.Why(true))
			}
			fmt.Println("ready")
			return nil
		},
	}
	a.bind(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "take no answer in this `duration` for a no")
	cmd.Flags().BoolVar(&warm, "warm", false, "and only if no node is warming, stale or down")
	return cmd
}
