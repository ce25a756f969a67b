package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"magent/server/admin"
	"magent/tools/deploy"
)

// defaultPort is where a magent serves clients unless it is told otherwise.
const defaultPort = 11211

// adminFlags say which magent of this machine a command asks.
type adminFlags struct {
	where string
	port  int
	token string // the path of a file
}

func (a *adminFlags) bind(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().IntVarP(&a.port, "port", "p", defaultPort, "ask the magent that serves clients on this `port`")
	cmd.Flags().StringVar(&a.where, "admin", "", "ask the magent whose admin endpoint is at this `path or address`; default is that of the port, "+admin.DefaultPath(defaultPort)+" or "+deploy.AdminPath(defaultPort))
	cmd.Flags().StringVar(&a.token, "admin-token-file", "", "show the token in the file at this `path`; --admin may then be an address of another machine")
}

func (a *adminFlags) client() (*admin.Client, error) {
	if a.token != "" {
		token, err := admin.ReadToken(a.token)
		if err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
		return admin.NewRemoteClient(a.where, token)
	}
	if a.where != "" {
		return admin.NewClient(a.where)
	}
	return admin.NewClient(adminOf(a.port))
}

// adminOf is where the magent of a port has its endpoint: by default or, if nothing is
// there, as magent ha init has it.
func adminOf(port int) string {
	where, kit := admin.DefaultPath(port), deploy.AdminPath(port)
	if _, err := os.Stat(where); err != nil {
		if _, err := os.Stat(kit); err == nil {
			return kit
		}
	}
	return where
}

func newStatus() *cobra.Command {
	var a adminFlags
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Say how a running magent and its nodes are",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(s)
			}
			return admin.WriteTable(os.Stdout, s, time.Now())
		},
	}
	a.bind(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
