package main

import (
	"github.com/spf13/cobra"

	"magent/server/config/file"
)

// newFileHelp is the help topic of what a configuration file may say.
func newFileHelp() *cobra.Command {
	return &cobra.Command{Use: "file", Short: "What a configuration file may say", Long: file.Help()}
}
