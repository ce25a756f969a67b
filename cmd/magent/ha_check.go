package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"magent/tools/deploy"
)

// haCheck is the flags of magent ha check.
type haCheck struct {
	vips      []string
	netDevice string
	peer      string
	port      int
	admin     string
	routerID  int
	conf      string
}

func newHACheck() *cobra.Command {
	var h haCheck
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Short: "Verify one of two machines that share an address, and say what mends it",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := h.recall(cmd.Flags()); err != nil {
				return err
			}
			facts, err := h.facts()
			if err != nil {
				return err
			}
			gather(cmd.Context(), facts)
			return printFindings(os.Stdout, deploy.Judge(facts))
		},
	}
	h.bind(cmd.Flags())
	return cmd
}

func (h *haCheck) bind(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringArrayVar(&h.vips, "vip", nil, "the `address/length` that the machines share; repeat for more")
	fs.StringVar(&h.netDevice, "interface", "", "the interface of this `name`")
	fs.StringVar(&h.peer, "peer", "", "the other machine's own `address`")
	fs.IntVarP(&h.port, "port", "p", defaultPort, "the `port` at which both magents serve clients")
	fs.StringVar(&h.admin, "admin", "", "the `path or address` of this machine's admin endpoint; default is that of the port")
	fs.IntVar(&h.routerID, "router-id", 0, "the VRRP router `number`")
	fs.StringVar(&h.conf, "conf", deploy.KeepalivedConf, "keepalived's file at this `path`: magent ha init has noted the other flags there")
}

// recall takes what was not typed from the file that magent ha init wrote.
func (h *haCheck) recall(typed *pflag.FlagSet) error {
	file, err := os.Open(h.conf)
	if err != nil {
		return nil // which a check finds out, too
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words, ok := strings.CutPrefix(lines.Text(), deploy.NoteBegin)
		if !ok {
			continue
		}
		var noted haCheck
		fs := pflag.NewFlagSet(h.conf, pflag.ContinueOnError)
		noted.bind(fs)
		if err := fs.Parse(strings.Fields(words)); err != nil {
			return fmt.Errorf("%s: %q: %w", h.conf, lines.Text(), err)
		}
		fs.VisitAll(func(f *pflag.Flag) {
			if !f.Changed || typed.Changed(f.Name) {
				return
			}
			if list, ok := f.Value.(pflag.SliceValue); ok {
				h.vips = list.GetSlice() // the only flag of several values
			} else {
				_ = typed.Set(f.Name, f.Value.String()) // it was parsed as one of these
			}
		})
		return nil
	}
	return nil
}

// facts is what the flags say.
func (h *haCheck) facts() (*deploy.Facts, error) {
	f := &deploy.Facts{Interface: h.netDevice, Port: h.port, Admin: h.admin, RouterID: h.routerID, Conf: h.conf}
	var errs []error
	for _, text := range h.vips {
		v, err := parseVIP(text)
		errs = append(errs, err)
		f.VIPs = append(f.VIPs, v)
	}
	if h.peer != "" {
		a, err := netip.ParseAddr(h.peer)
		if err != nil {
			errs = append(errs, fmt.Errorf("--peer takes an address, not %q", h.peer))
		}
		f.Peer = a
	}
	if f.Admin == "" {
		f.Admin = adminOf(h.port)
	}
	return f, errors.Join(errs...)
}

// printFindings prints the findings, and is an error if one of them is to be mended.
func printFindings(out io.Writer, findings []deploy.Finding) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	mend := false
	for _, f := range findings {
		mend = mend || f.Verdict == deploy.Mend
		text := f.Text
		if f.Command != "" {
			text += "; try: " + f.Command
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Verdict, f.Name, text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if mend {
		return exitStatus(1)
	}
	return nil
}

// checkPatience is how long each machine or program that is asked may take.
const checkPatience = 2 * time.Second

// gather finds out all that there is to know.
func gather(ctx context.Context, f *deploy.Facts) {
	gatherKeepalived(ctx, f)
	gatherNetwork(ctx, f)
	gatherMagent(ctx, f)
	gatherPeer(ctx, f)
	gatherAdvert(f)
	gatherClock(f)
}
