package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"magent/server/admin"
)

// followEvery is how often a magent is asked for what is new.
const followEvery = time.Second

func newEvents() *cobra.Command {
	var a adminFlags
	asJSON, follow := false, false
	cmd := &cobra.Command{
		Use:   "events [--follow] [flags]",
		Short: "Say what has changed at a running magent: states of nodes, failovers, refills",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			for last := uint64(0); ; time.Sleep(followEvery) {
				all, err := c.Events(cmd.Context(), last)
				if err == nil {
					last, err = tellEvents(all, asJSON, last)
				}
				if err != nil || !follow {
					return err
				}
			}
		},
	}
	a.bind(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on, and say what changes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each event")
	return cmd
}

// tellEvents prints all, and returns the number of the last of them, or last.
func tellEvents(all []admin.Event, asJSON bool, last uint64) (uint64, error) {
	lines := json.NewEncoder(os.Stdout)
	for _, e := range all {
		var err error
		if asJSON {
			err = lines.Encode(e)
		} else {
			_, err = fmt.Println(e)
		}
		if err != nil {
			return last, err
		}
		last = e.Number
	}
	return last, nil
}
