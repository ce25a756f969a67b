package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"magent/server/admin"
)

// ranking is the flags of magent top.
type ranking struct {
	admin         adminFlags
	span          time.Duration
	keys, clients int
	once, asJSON  bool
}

func newTop() *cobra.Command {
	r := ranking{span: 2 * time.Second, keys: 20, clients: 10}
	cmd := &cobra.Command{
		Use:   "top [flags]",
		Short: "Show which keys clients of a running magent ask for most, and who asks most",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.admin.client()
			if err != nil {
				return err
			}
			return r.run(cmd.Context(), c)
		},
	}
	fs := cmd.Flags()
	fs.DurationVar(&r.span, "for", r.span, "count for this `duration`, 1m at most; on a terminal, over and over")
	fs.IntVar(&r.keys, "keys", r.keys, "show this `number` of keys at most")
	fs.IntVar(&r.clients, "clients", r.clients, "show this `number` of clients at most")
	fs.BoolVar(&r.once, "once", false, "count once, as is done where the output is no terminal")
	r.admin.bind(cmd)
	fs.BoolVar(&r.asJSON, "json", false, "count once, and print JSON")
	return cmd
}

func (r *ranking) run(ctx context.Context, c *admin.Client) error {
	if r.span < time.Millisecond {
		return errors.New("--for must be a duration of 1ms at least")
	}
	q := admin.TopQuestion{Millis: int(r.span.Milliseconds()), Keys: r.keys, Clients: r.clients}
	once := r.once || r.asJSON || !term.IsTerminal(int(os.Stdout.Fd()))
	if !once {
		fmt.Printf("counting for %v\n", r.span)
	}
	for {
		t, err := c.Top(ctx, q)
		switch {
		case err != nil:
			return err
		case r.asJSON:
			return printJSON(t)
		case once:
			return admin.WriteTop(os.Stdout, t)
		}
		if err := draw(t); err != nil {
			return err
		}
	}
}

// usualWidth and usualHeight are assumed of a terminal that does not tell.
const usualWidth, usualHeight = 80, 24

// clearScreen has what is written next begin at the top of an empty terminal.
const clearScreen = "\x1b[H\x1b[2J"

// draw fills the terminal with t.
func draw(t admin.Top) error {
	var text bytes.Buffer
	if err := admin.WriteTop(&text, t); err != nil {
		return err
	}
	width, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || width < 1 || height < 2 {
		width, height = usualWidth, usualHeight
	}
	_, err = os.Stdout.WriteString(clearScreen + fit(text.String(), width, height-1))
	return err
}

// fit is as many lines of text as there is room for, each cut off where the terminal ends.
func fit(text string, width, height int) string {
	lines := strings.SplitAfter(text, "\n")
	lines = lines[:min(height, len(lines))]
	for i, line := range lines {
		if over := utf8.RuneCountInString(line) - 1 - width; over > 0 {
			lines[i] = string([]rune(line)[:width]) + "\n"
		}
	}
	return strings.Join(lines, "")
}
