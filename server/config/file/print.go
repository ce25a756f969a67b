package file

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"magent/server/config"
)

// Text is the file that says the same: what is not as by default. Read makes equal settings of it.
func (s *Settings) Text() []byte {
	var b strings.Builder
	b.WriteString("listen:\n")
	for _, l := range s.Listen {
		printListen(&b, l)
	}
	b.WriteString("pools:\n")
	for i := range s.Pools {
		printPool(&b, &s.Pools[i])
	}
	plain := Empty().set
	for _, name := range Process() {
		printField(&b, "", s.set.Lookup(name), plain.Lookup(name))
	}
	return []byte(b.String())
}

func printListen(b *strings.Builder, l config.Listen) {
	kind := l.Network
	if l.TLS {
		kind = "tls"
	}
	fmt.Fprintf(b, "  - %s: %s\n", kind, quote(l.Address))
	if l.Network == "unix" && l.Mode != 0 {
		fmt.Fprintf(b, "    mode: %04o\n", l.Mode)
	}
	head := "    routes:\n"
	for _, r := range l.Routes {
		if r.Prefix == "" {
			continue
		}
		fmt.Fprintf(b, "%s      %s: %s\n", head, quote(r.Prefix), quote(r.Pool))
		head = ""
	}
	if i := slices.IndexFunc(l.Routes, func(r config.Route) bool { return r.Prefix == "" }); i >= 0 {
		fmt.Fprintf(b, "    default: %s\n", quote(l.Routes[i].Pool))
	}
}

func printPool(b *strings.Builder, p *config.Pool) {
	fmt.Fprintf(b, "  %s:\n    copies:\n", quote(p.Name))
	for _, nodes := range p.Copies {
		words := make([]string, len(nodes))
		for i, n := range nodes {
			words[i] = nodeText(n)
		}
		fmt.Fprintf(b, "      - [%s]\n", strings.Join(words, ", "))
	}
	set, plain := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	same, d := *p, config.DefaultPool()
	config.BindPool(set, &same)
	config.BindPool(plain, &d)
	for _, name := range Pool() {
		printField(b, "    ", set.Lookup(name), plain.Lookup(name))
	}
}

// nodeText is a node in as few words as say it.
func nodeText(n config.Node) string {
	switch {
	case n.Weight > 1 && n.Name != "":
		return fmt.Sprintf("{address: %s, name: %s, weight: %d}", quote(n.Address()), quote(n.Name), n.Weight)
	case n.Weight > 1:
		return fmt.Sprintf("{address: %s, weight: %d}", quote(n.Address()), n.Weight)
	case n.Name != "":
		return quote(n.Address() + " " + n.Name)
	}
	return quote(n.Address())
}

// printField prints a field that is not as in plain.
func printField(b *strings.Builder, indent string, f, plain *pflag.Flag) {
	if f.Value.String() == plain.Value.String() {
		return
	}
	fmt.Fprintf(b, "%s%s: %s\n", indent, f.Name, fieldText(f))
}

func fieldText(f *pflag.Flag) string {
	several, ok := f.Value.(pflag.SliceValue)
	if !ok {
		switch f.Value.Type() {
		case "bool", "int":
			return f.Value.String()
		}
		return quote(f.Value.String())
	}
	var words []string
	for _, text := range several.GetSlice() {
		words = append(words, quote(text))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

var (
	// bare is what needs no quotes in a list in brackets, if it is none of misread. A colon is
	// part of it only in the middle of a word.
	bare = regexp.MustCompile(`^[A-Za-z0-9/._][A-Za-z0-9/._@%+-]*(:[A-Za-z0-9/._@%+-]+)*( [A-Za-z0-9/._-]+)?$`)
	// misread is what YAML, of one version or another, takes for something else than text.
	misread = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|y|n|null|\.inf|\.nan|[0-9._:+-]*|0[xob][0-9a-f_]+|[0-9._]+e[0-9+-]*|\.\.\.)$`)
)

// quote is text as one word of YAML.
func quote(text string) string {
	if bare.MatchString(text) && (!misread.MatchString(text) || isAddress(text)) {
		return text
	}
	return strconv.Quote(text)
}

// isAddress reports whether text is one that nobody takes for a number.
func isAddress(text string) bool {
	_, plain := netip.ParseAddr(text)
	_, withPort := netip.ParseAddrPort(text)
	return plain == nil || withPort == nil
}
