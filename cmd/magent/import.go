package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"magent/server/config/file"
)

func newImport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Print the file that does what another program's does",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("nothing of %q can be imported, but of twemproxy and of mcrouter", args[0])
			}
			return errors.New("say what is to be imported: magent import twemproxy nutcracker.yml, or magent import mcrouter mcrouter.json")
		},
	}
	listen := ""
	mcrouter := &cobra.Command{
		Use:   "mcrouter FILE [flags]",
		Short: "Print the file that does what an mcrouter.json does",
		Args:  oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			at, err := file.Listener(listen)
			if err != nil {
				return fmt.Errorf("--listen %w", err)
			}
			return imported(args[0], func(name string, text []byte) (*file.Settings, []string, error) {
				return file.Mcrouter(name, text, at)
			})
		},
	}
	mcrouter.Flags().StringVar(&listen, "listen", "0.0.0.0:5000", "listen at this `address`, which mcrouter has from its command line")
	cmd.AddCommand(mcrouter, &cobra.Command{
		Use:   "twemproxy FILE",
		Short: "Print the file that does what a nutcracker.yml does",
		Args:  oneFile,
		RunE:  func(_ *cobra.Command, args []string) error { return imported(args[0], file.Twemproxy) },
	})
	return cmd
}

// imported prints what the file at path comes to, with what is not the same on top.
func imported(path string, read func(name string, text []byte) (*file.Settings, []string, error)) error {
	text, err := readFile(path)
	if err != nil {
		return err
	}
	s, notes, err := read(path, text)
	if err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Println("# " + n)
	}
	_, err = os.Stdout.Write(s.Text())
	return err
}
