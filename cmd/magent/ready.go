package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"magent/bench/stats"
	"magent/server/admin"
)

const (
	// defaultReadyTimeout is below the 200 ms in which keepalived asks anew.
	defaultReadyTimeout = 150 * time.Millisecond
	// lateAnswers is how many answers in a row have to be late, where it is asked for
	// some time: one may be the host's fault.
	lateAnswers = 2
)

// readiness is the flags of magent ready.
type readiness struct {
	admin   adminFlags
	timeout time.Duration
	warm    bool
	span    time.Duration
	every   time.Duration
	peer    string
}

func newReady() *cobra.Command {
	r := readiness{timeout: defaultReadyTimeout, every: 100 * time.Millisecond}
	cmd := &cobra.Command{
		Use:   "ready [flags]",
		Short: "Exit with 0 if a running magent serves clients, and with 1 if it does not",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.admin.client()
			if err != nil {
				return err
			}
			if err := r.watch(cmd.Context(), c); err != nil {
				return err
			}
			fmt.Println("ready")
			return nil
		},
	}
	r.admin.bind(cmd)
	fs := cmd.Flags()
	fs.DurationVar(&r.timeout, "timeout", r.timeout, "take no answer in this `duration` for a no")
	fs.BoolVar(&r.warm, "warm", false, "and only if no node is warming, stale or down")
	fs.DurationVar(&r.span, "for", 0, "go on asking for this `duration`, and end at the first no, or the second answer in a row that is late")
	fs.DurationVar(&r.every, "every", r.every, "with --for: ask once in this `duration`")
	fs.StringVar(&r.peer, "peer", "", "if nothing is wrong here but the nodes, it is a no only if the magent that serves clients at this `address` is ready")
	return cmd
}

// watch asks once or, with --for, over and over. keepalived 2.2.7 runs a check once a
// second at most; one that goes on for nearly a second, and ends as soon as the answer is
// no, tells it at once.
func (r *readiness) watch(ctx context.Context, c *admin.Client) error {
	end := time.Now().Add(r.span)
	for late := 0; ; {
		err := r.ask(ctx, c)
		switch {
		case err == nil:
			late = 0
		case r.span > 0 && errors.As(err, new(lateError)):
			if late++; late == lateAnswers {
				return err
			}
		default:
			return err
		}
		if late == 0 && time.Until(end) < r.every {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.every):
		}
	}
}

// lateError is that there was no answer within so much.
type lateError time.Duration

func (e lateError) Error() string { return fmt.Sprintf("not ready: no answer in %v", time.Duration(e)) }

// ask asks once; nil is a yes.
func (r *readiness) ask(ctx context.Context, c *admin.Client) error {
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	is, err := c.Ready(limited)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return lateError(r.timeout)
	case err != nil:
		return fmt.Errorf("not ready: %w", err)
	case !is.Ready && is.OnlyNodes && r.peer != "" && !peerReady(ctx, r.peer, r.timeout):
		return nil // to have no address at all would be worse
	case !is.Ready:
		return errors.New("not ready: " + is.Why(false))
	case r.warm && !is.Warm:
		return errors.New("not warm: " + is.Why(true))
	}
	return nil
}

// peerReady asks the magent at addr, where it serves clients, whether it is ready.
func peerReady(ctx context.Context, addr string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := stats.Dial(ctx, addr)
	if err != nil {
		return false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	said, err := c.Ask("proxy")
	return err == nil && said["ready"] == "1"
}
