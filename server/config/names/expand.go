package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"magent/server/config"
)

// Any reports whether c has a name that has to be looked up.
func Any(c *config.Config) bool {
	return slices.ContainsFunc(c.Pools, func(p config.Pool) bool {
		return slices.ContainsFunc(slices.Concat(p.Copies...), func(n config.Node) bool { return n.Lookup != "" || !literal(n.Host) })
	})
}

func literal(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// Addresses is the address of each host that is known by a name, as it is in force. As JSON one
// process can tell another.
type Addresses map[string]netip.Addr

// Of is those of c.
func Of(c *config.Config) Addresses {
	all := make(Addresses)
	for _, p := range c.Pools {
		for _, n := range slices.Concat(p.Copies...) {
			if !literal(n.Host) {
				all[n.Host] = n.At
			}
		}
	}
	return all
}

// Expand is c with the address of each node, and nodes in place of the names that stand for
// several; and how long that holds. Of a node with several addresses the one that it has in
// before, which may be nil, stays as long as it is one of them. The error has every name that
// has nothing.
func (r *Resolver) Expand(ctx context.Context, c *config.Config, before Addresses) (config.Config, time.Duration, error) {
	e := expansion{Resolver: r, ctx: ctx, holds: longest, before: before}
	out := *c
	out.Pools = slices.Clone(c.Pools)
	for i := range out.Pools {
		p := &out.Pools[i]
		p.Copies = slices.Clone(p.Copies)
		for j, list := range p.Copies {
			var nodes []config.Node
			for _, n := range list {
				nodes = append(nodes, e.nodes(n)...)
			}
			p.Copies[j] = nodes
		}
	}
	if err := errors.Join(e.errs...); err != nil {
		return out, e.holds, err
	}
	return out, e.holds, out.Validate()
}

// expansion is one run of Expand.
type expansion struct {
	*Resolver
	ctx    context.Context
	holds  time.Duration
	before Addresses
	errs   []error
}

// nodes is what n stands for; nothing, with an error, if it is not known.
func (e *expansion) nodes(n config.Node) []config.Node {
	switch n.Lookup {
	case config.LookupDNS:
		return e.hosts(n)
	case config.LookupSRV:
		return e.service(n)
	}
	all := e.found(n.Host)
	if len(all) == 0 {
		return nil
	}
	n.At = all[0]
	if was := e.before[n.Host]; slices.Contains(all, was) {
		n.At = was
	}
	return []config.Node{n}
}

// hosts is a node for each address.
func (e *expansion) hosts(n config.Node) (nodes []config.Node) {
	for _, a := range e.found(n.Host) {
		nodes = append(nodes, config.Node{Host: a.String(), Port: n.Port, Weight: n.Weight, At: a})
	}
	return nodes
}

// service is a node for each target.
func (e *expansion) service(n config.Node) (nodes []config.Node) {
	targets, ttl, err := e.targets(e.ctx, n.Host)
	e.note(ttl, err)
	for _, t := range targets {
		host := strings.TrimSuffix(t.Target, ".")
		nodes = append(nodes, e.nodes(config.Node{Host: host, Port: int(t.Port), Weight: n.Weight})...)
	}
	return nodes
}

func (e *expansion) found(host string) []netip.Addr {
	all, ttl, err := e.addresses(e.ctx, host)
	e.note(ttl, err)
	return all
}

func (e *expansion) note(ttl time.Duration, err error) {
	e.holds = min(e.holds, ttl)
	if err != nil && !slices.ContainsFunc(e.errs, func(o error) bool { return o.Error() == err.Error() }) {
		e.errs = append(e.errs, err)
	}
}

// Changes is what is another in b than in a, of the nodes of pools of one name, for the log;
// "" if nothing is.
func Changes(a, b *config.Config) string {
	var out []string
	for i := range b.Pools {
		p := &b.Pools[i]
		was := a.Pool(p.Name)
		if was == nil {
			continue
		}
		if x, y := texts(was), texts(p); !slices.Equal(x, y) {
			out = append(out, fmt.Sprintf("pool %s: %s in place of %s", p.Name, strings.Join(y, " "), strings.Join(x, " ")))
		}
	}
	return strings.Join(out, "; ")
}

// texts is the nodes of p, with their addresses, and a bar between copies.
func texts(p *config.Pool) (all []string) {
	for i, list := range p.Copies {
		if i > 0 {
			all = append(all, "|")
		}
		for _, n := range list {
			text := n.Address()
			if n.Host != n.At.String() {
				text += "=" + n.At.String()
			}
			all = append(all, text)
		}
	}
	return all
}
