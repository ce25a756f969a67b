package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"magent/codec"
)

// Clients says what clients may do. The zero value is all that memcached lets them.
type Clients struct {
	// Allow is the addresses that are served; empty for all. Who comes by a unix socket is
	// served in any case.
	Allow []netip.Prefix

	Conns       int           // connections of one address at a time; 0 is no bound
	Rate        int           // requests of one address per second, a get of several keys being as many; 0 is no bound
	Deny        []string      // commands that are refused, by their names in the text protocol
	IdleTimeout time.Duration // a client that is silent for so long is closed; 0: none is
}

// Allows reports whether a client at a is served.
func (c *Clients) Allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return len(c.Allow) == 0 || slices.ContainsFunc(c.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neverServed is a command that memcached refuses anyway: to deny it changes nothing.
const neverServed = "shutdown"

// Denied is the commands that Deny names.
func (c *Clients) Denied() (ops []codec.Op) {
	for _, name := range c.Deny {
		if op, ok := codec.OpNamed(name); ok {
			ops = append(ops, op)
		}
	}
	return ops
}

// leastIdle is the shortest idle timeout: one that a client between two requests does
// not run into.
const leastIdle = time.Second

// validate reports every fault.
func (c *Clients) validate() (errs []error) {
	for _, name := range c.Deny {
		op, ok := codec.OpNamed(name)
		switch {
		case name == neverServed:
		case !ok:
			errs = append(errs, at("deny", "deny: %q is no command that is served, known are %s", name, strings.Join(deniable(), ", ")))
		case op == codec.OpQuit:
			errs = append(errs, at("deny", "deny: a client may always quit"))
		}
	}
	if c.IdleTimeout != 0 && c.IdleTimeout < leastIdle {
		errs = append(errs, at("idle-timeout", "idle timeout must be 0 for none, or %v at least, is %v", leastIdle, c.IdleTimeout))
	}
	return errs
}

// deniable is the commands that Deny may name.
func deniable() (names []string) {
	for op := codec.OpNone + 1; op < codec.NumOps; op++ {
		if op != codec.OpQuit {
			names = append(names, op.String())
		}
	}
	return append(names, neverServed)
}

// prefixes is a list of networks, a pflag.Value: "10.0.0.0/8,192.0.2.7", where a lone
// address is a network of one. It adds to what it has.
type prefixes []netip.Prefix

func (p *prefixes) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		network, err := parsePrefix(one)
		if err != nil {
			return err
		}
		*p = append(*p, network)
	}
	return nil
}

func (p *prefixes) String() string { return strings.Join(p.GetSlice(), ",") }

// Type names the flag's kind for Wants.
func (p *prefixes) Type() string { return "networks" }

// Append adds one more; with Replace and GetSlice it makes p a list in a file.
func (p *prefixes) Append(text string) error { return p.Set(text) }

// Replace takes all in place of what there is.
func (p *prefixes) Replace(all []string) error {
	*p = nil
	return setAll(p, all)
}

// GetSlice is what Replace takes.
func (p *prefixes) GetSlice() (all []string) {
	for _, network := range *p {
		all = append(all, network.String())
	}
	return all
}

// setAll has v take each of all.
func setAll(v pflag.Value, all []string) error {
	for _, text := range all {
		if err := v.Set(text); err != nil {
			return err
		}
	}
	return nil
}

var errPrefix = errors.New("not a network")

// unclear is what is wrong with a value that may have been meant otherwise.
type unclear string

func (u unclear) Error() string { return string(u) }

// mappedBits is how many bits stand before an IPv4 address that is written as IPv6.
const mappedBits = 96

// parsePrefix reads one network. One with bits behind its length is refused: what was
// meant is not known.
func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, errPrefix
	}
	if a := network.Addr(); a.Is4In6() && network.Bits() >= mappedBits {
		network = netip.PrefixFrom(a.Unmap(), network.Bits()-mappedBits)
	}
	if network != network.Masked() {
		return network, unclear(fmt.Sprintf("%s has bits behind its length: the network is %s", text, network.Masked()))
	}
	return network, nil
}

// commands is a list of commands, a pflag.Value. It adds to what it has.
type commands []string

func (c *commands) Set(text string) error {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.ToLower(strings.TrimSpace(one)); one == "" {
			return errors.New("not a command")
		}
		if !slices.Contains(*c, one) {
			*c = append(*c, one)
		}
	}
	return nil
}

func (c *commands) String() string { return strings.Join(*c, ",") }

// Type names the flag's kind for Wants.
func (c *commands) Type() string { return "commands" }

// Append adds one more; with Replace and GetSlice it makes c a list in a file.
func (c *commands) Append(text string) error { return c.Set(text) }

// Replace takes all in place of what there is.
func (c *commands) Replace(all []string) error {
	*c = nil
	return setAll(c, all)
}

// GetSlice is what Replace takes.
func (c *commands) GetSlice() []string { return *c }
