package file

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"magent/server/config"
)

// Field is one that a file may have, for people to read.
type Field struct {
	Name, Takes, Default, Meaning string
}

// Fields are those of a pool, its copies aside, and those of the process, listen and pools aside.
func Fields() (pool, process []Field) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	p := config.DefaultPool()
	config.BindPool(fs, &p)
	for _, name := range Pool() {
		pool = append(pool, describe(fs.Lookup(name)))
	}
	all := Empty().set
	for _, name := range Process() {
		process = append(process, describe(all.Lookup(name)))
	}
	return pool, process
}

func describe(f *pflag.Flag) Field {
	takes, meaning := pflag.UnquoteUsage(f)
	if f.Value.Type() == "bool" {
		takes = "true or false"
	}
	d := strings.Trim(f.DefValue, "[]")
	return Field{f.Name, takes, d, meaning}
}

// Help is what magent help file prints.
func Help() string {
	var b strings.Builder
	b.WriteString(`A file of magent --config, in YAML. What it has for a node, a listener and a route:

  listen:
    - 127.0.0.1:11211                  # an address; or a path, of a unix socket
    - tcp: 0.0.0.0:11212
      routes: {"session:": sessions}   # keys that begin with this go to that pool; the longest counts
      default: main                    # all other keys; without routes the first pool has all
    - tls: 0.0.0.0:11213               # with tls-cert and tls-key
    - unix: /run/magent/clients.sock
      mode: 0660
  pools:
    main:
      copies:                          # the primaries first
        - [10.0.0.1:11211, 10.0.0.2:11211 name]
        - [{address: 10.0.1.1:11211, name: big, weight: 3}, 10.0.1.2:11211]
      timeout: 100ms
    sessions:
      copies: [[10.0.2.1:11211], [10.0.2.2:11211]]
  user: nobody

All else has the name of the flag that says the same, and takes what that takes.

Of each pool:
`)
	pool, process := Fields()
	list := func(all []Field) {
		for _, f := range all {
			fmt.Fprintf(&b, "  %-20s %-20s %s", f.Name, f.Takes, f.Meaning)
			if f.Default != "" {
				fmt.Fprintf(&b, " (%s)", f.Default)
			}
			b.WriteByte('\n')
		}
	}
	list(pool)
	b.WriteString("\nOf the process; on a command line beside --config, these win:\n")
	list(process)
	return b.String()
}
