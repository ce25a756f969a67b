package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"magent/server/admin"
	"magent/server/config"
)

// comparison is the flags of magent diff.
type comparison struct {
	admin       adminFlags
	pool        string
	sample      int
	all, repair bool
	pause       time.Duration
	rate        config.ResyncRate
	asJSON      bool
}

func newDiff() *cobra.Command {
	d := comparison{sample: 10_000, pause: 200 * time.Millisecond, rate: config.ResyncRate{Keys: 20_000, Bytes: 64 << 20}}
	cmd := &cobra.Command{
		Use:   "diff [flags]",
		Short: "Compare the copies of keys; exit with 1 if some differ, and are not mended",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.all && cmd.Flags().Changed("sample") {
				return errors.New("it is either --sample or --all")
			}
			return d.run(cmd)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&d.pool, "pool", "", "compare the copies of the pool of this `name`; it need not be said if there is only one")
	fs.IntVar(&d.sample, "sample", d.sample, "compare this `number` of keys, chosen by chance")
	fs.BoolVar(&d.all, "all", false, "compare all keys")
	fs.BoolVar(&d.repair, "repair", false, "give the copies that differ what the lead has, or has not")
	fs.DurationVar(&d.pause, "pause", d.pause, "wait for this `duration` before each of two more looks at a key that seems to differ")
	fs.Var(&d.rate, "rate", "compare at most these `keys,bytes` per second; 0 is no bound")
	d.admin.bind(cmd)
	fs.BoolVar(&d.asJSON, "json", false, "print JSON")
	return cmd
}

func (d *comparison) run(cmd *cobra.Command) error {
	q := admin.DiffQuestion{Pool: d.pool, Sample: d.sample, Repair: d.repair, Pause: int(d.pause.Milliseconds()), Keys: d.rate.Keys, Bytes: d.rate.Bytes}
	switch {
	case d.all:
		q.Sample = 0
	case d.sample < 1:
		return errors.New("--sample must be a number of keys, from 1 on")
	}
	c, err := d.admin.client()
	if err != nil {
		return err
	}
	show, end := progressTo(os.Stderr)
	report, err := c.Diff(cmd.Context(), q, show)
	end()
	if err != nil {
		return err
	}
	if d.asJSON {
		err = printJSON(report)
	} else {
		err = admin.WriteDiff(os.Stdout, report)
	}
	if err == nil && report.Different > report.Mended {
		return exitStatus(1)
	}
	return err
}

// progressTo shows how far a comparison is: in one line of a terminal, over and over, until
// end takes it away, and elsewhere not at all.
func progressTo(f *os.File) (show func(admin.DiffProgress), end func()) {
	if !term.IsTerminal(int(f.Fd())) {
		return func(admin.DiffProgress) {}, func() {}
	}
	const clearLine = "\r\x1b[K"
	show = func(p admin.DiffProgress) {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 2 {
			width = usualWidth
		}
		fmt.Fprint(f, clearLine+strings.TrimSuffix(fit(p.String()+"\n", width-1, 1), "\n"))
	}
	return show, func() { fmt.Fprint(f, clearLine) }
}
