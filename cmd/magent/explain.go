package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"magent/server/admin"
)

func newExplain() *cobra.Command {
	var a adminFlags
	coded, value, asJSON, pool := false, false, false, ""
	cmd := &cobra.Command{
		Use:   "explain KEY [flags]",
		Short: "Say where a key is, who leads it, and what each replica holds of it",
		Args:  oneKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			key := []byte(args[0])
			if coded {
				var err error
				if key, err = base64.StdEncoding.DecodeString(args[0]); err != nil {
					return fmt.Errorf("%q is not base64", args[0])
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			e, err := c.Explain(cmd.Context(), admin.Question{Key: key, Value: value, Pool: pool})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e)
			}
			return admin.WriteExplanation(os.Stdout, e)
		},
	}
	cmd.Flags().BoolVar(&coded, "base64", false, "KEY is in base64: any bytes may be in it")
	cmd.Flags().BoolVar(&value, "value", false, "show the beginning of the value, too")
	cmd.Flags().StringVar(&pool, "pool", "", "ask the pool of this `name`; default is the one that serves the key")
	a.bind(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printJSON prints v for programs.
func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// oneKey wants a key for the only argument.
func oneKey(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("say which key")
	case 1:
		return nil
	}
	return fmt.Errorf("unexpected argument %q: a key with a space in it is to be quoted", args[1])
}
