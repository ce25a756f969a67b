package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"magent/server/config"
	"magent/server/config/file"
	"magent/server/config/names"
)

func newCheck() *cobra.Command {
	resolve := false
	cmd := &cobra.Command{
		Use:   "check FILE [flags]",
		Short: "Say all that is wrong with a configuration, without serving",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readAlone(args[0])
			if err != nil {
				return err
			}
			if resolve {
				if err := resolves(cmd.Context(), s); err != nil {
					return err
				}
			}
			for _, w := range s.Warnings() {
				fmt.Println("warning: " + w)
			}
			nodes := 0
			for i := range s.Pools {
				nodes += len(slices.Concat(s.Pools[i].Copies...))
			}
			fmt.Printf("%s is good: %s, %s, %s\n", args[0], count(len(s.Listen), "listener"), count(len(s.Pools), "pool"), count(nodes, "node"))
			return nil
		},
	}
	cmd.Flags().BoolVar(&resolve, "resolve", false, "see whether the names of hosts, user and group are known here, too")
	return cmd
}

// count is n of what, in words.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// oneFile wants a path for the only argument.
func oneFile(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("say which file")
	case 1:
		return nil
	}
	return fmt.Errorf("unexpected argument %q", args[1])
}

// readAlone reads a configuration as if nothing stood beside it.
func readAlone(path string) (*file.Settings, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	none := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(config.Flags).Bind(none)
	return file.Read(path, text, none)
}

// resolvePatience bounds how long names are looked up, all together.
const resolvePatience = 10 * time.Second

// resolves looks up every name in s.
func resolves(ctx context.Context, s *file.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	var errs []error
	look := func(where, host string) {
		host, _, _ = strings.Cut(host, "%") // a zone is no part of the name
		if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
	}
	for _, l := range s.Listen {
		if host, _, err := net.SplitHostPort(l.Address); l.Network == "tcp" && err == nil {
			look("listener "+l.Address, host)
		}
	}
	r, err := names.New(s.Flags.ResolvConf, names.Hosts)
	if err == nil {
		_, _, err = r.Expand(ctx, &s.Config, nil)
	}
	errs = append(errs, err)
	if _, err := lookupIdentity(s.Flags.User, s.Flags.Group); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
