package names

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Hosts is the file of names that DNS is not asked for, hosts(5).
const Hosts = "/etc/hosts"

// How long an answer holds at least and at most, and if nobody says.
const (
	shortest = time.Second
	longest  = time.Hour
	unsaid   = 30 * time.Second
)

// payload is the bytes of an answer that comes in one packet through any network (DNS Flag Day
// 2020). A longer one is asked for again, by TCP.
const payload = 1232

// Resolver asks for names.
type Resolver struct {
	hosts  string
	conf   *dns.ClientConfig
	system func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// New is a Resolver that goes by these two files, resolv.conf(5) and hosts(5). Where there is no resolv.conf it asks
// this machine.
func New(resolvConf, hosts string) (*Resolver, error) {
	conf, err := dns.ClientConfigFromFile(resolvConf)
	switch {
	case errors.Is(err, os.ErrNotExist):
		conf = &dns.ClientConfig{Port: "53", Ndots: 1, Timeout: 5, Attempts: 2}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", resolvConf, err)
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []string{"127.0.0.1"}
	}
	for i, s := range conf.Servers {
		host, port, err := net.SplitHostPort(s) // [address]:port, as OpenBSD's resolv.conf(5) has it
		if err != nil {
			host, port = s, conf.Port
		}
		conf.Servers[i] = net.JoinHostPort(host, port)
	}
	return &Resolver{hosts: hosts, conf: conf, system: net.DefaultResolver.LookupNetIP}, nil
}

// addresses is those of host, IPv4 ones only if there are any, in their order; and how long
// that holds.
func (r *Resolver) addresses(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, longest, nil
	}
	if all := r.inHosts(host); len(all) > 0 {
		return tidy(all), unsaid, nil
	}
	all, ttl, err := r.inDNS(ctx, host)
	if len(all) > 0 {
		return tidy(all), ttl, nil
	}
	if all := r.inSystem(ctx, host); len(all) > 0 {
		return tidy(all), unsaid, nil
	}
	return nil, unsaid, fmt.Errorf("unknown host %q: %w", host, err)
}

// tidy is all without what is there twice, in order; IPv6 only if there is nothing else, as a
// host with both is one node.
func tidy(all []netip.Addr) []netip.Addr {
	for i := range all {
		all[i] = all[i].Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare) // IPv4 comes first
	all = slices.Compact(all)
	if i := slices.IndexFunc(all, netip.Addr.Is6); i > 0 {
		all = all[:i]
	}
	return all
}

// inHosts is what the file of hosts has for host.
func (r *Resolver) inHosts(host string) (all []netip.Addr) {
	f, err := os.Open(r.hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) < 2 || !slices.ContainsFunc(words[1:], func(w string) bool { return strings.EqualFold(w, host) }) {
			continue
		}
		if a, err := netip.ParseAddr(words[0]); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// inDNS is what DNS has for host, under the first name of the search list that it knows. A name
// is another, and so has no IPv4 address, only if a server says so: one that fails for a while
// must not make a host another.
func (r *Resolver) inDNS(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	for _, name := range r.conf.NameList(host) {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			records, ttl, err := r.ask(ctx, name, kind)
			if err != nil && !errors.Is(err, errNothing) {
				return nil, 0, err
			}
			if all := addressesIn(records); len(all) > 0 {
				return all, ttl, nil
			}
		}
	}
	return nil, 0, errNothing
}

// addressesIn is the addresses of records, among which aliases may be.
func addressesIn(records []dns.RR) (all []netip.Addr) {
	for _, rr := range records {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			all = append(all, a)
		}
	}
	return all
}

// inSystem is what the system's resolver has for host: IPv6 only if that has found that there is
// no IPv4, as in inDNS.
func (r *Resolver) inSystem(ctx context.Context, host string) []netip.Addr {
	all, err := r.system(ctx, "ip4", host)
	if no, ok := errors.AsType[*net.DNSError](err); ok && no.IsNotFound {
		all, _ = r.system(ctx, "ip6", host)
	}
	return all
}

// targets is where an SRV record says that a service is, those of the lowest priority, in order;
// and how long that holds.
func (r *Resolver) targets(ctx context.Context, name string) (all []*dns.SRV, ttl time.Duration, err error) {
	for _, name := range r.conf.NameList(name) {
		records, t, failed := r.ask(ctx, name, dns.TypeSRV)
		if failed != nil && !errors.Is(failed, errNothing) {
			err = failed
			break
		}
		for _, rr := range records {
			if s, ok := rr.(*dns.SRV); ok && s.Target != "." { // which is that there is no such service (RFC 2782)
				all = append(all, s)
			}
		}
		if len(all) > 0 {
			ttl = t
			break
		}
	}
	if len(all) == 0 {
		return nil, unsaid, fmt.Errorf("unknown service %q: %w", name, cmp.Or(err, errNothing))
	}
	least := slices.MinFunc(all, func(a, b *dns.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	all = slices.DeleteFunc(all, func(s *dns.SRV) bool { return s.Priority != least })
	slices.SortFunc(all, func(a, b *dns.SRV) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port))
	})
	return all, ttl, nil
}

// errNothing is of a name that has nothing of what was asked for.
var errNothing = errors.New("DNS has nothing of this name")

// ask asks one server after the other for the records of one kind, and of aliases on the way.
// It is an error if there are none. The time is the shortest of any.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) (records []dns.RR, ttl time.Duration, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(payload, false)
	for range max(1, r.conf.Attempts) {
		for _, server := range r.conf.Servers {
			in, failed := r.exchange(ctx, q, server)
			switch {
			case failed != nil:
				err = failed
			case in.Rcode == dns.RcodeNameError || in.Rcode == dns.RcodeSuccess && len(in.Answer) == 0:
				return nil, 0, errNothing
			case in.Rcode != dns.RcodeSuccess:
				err = fmt.Errorf("%s answers %s", server, dns.RcodeToString[in.Rcode])
			default:
				ttl = longest
				for _, rr := range in.Answer {
					ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
				}
				return in.Answer, max(ttl, shortest), nil
			}
		}
	}
	return nil, 0, err
}

// exchange asks one server, by TCP if the answer is too long for a packet.
func (r *Resolver) exchange(ctx context.Context, q *dns.Msg, server string) (in *dns.Msg, err error) {
	c := &dns.Client{Timeout: time.Duration(max(1, r.conf.Timeout)) * time.Second, UDPSize: payload}
	if in, _, err = c.ExchangeContext(ctx, q, server); err == nil && in.Truncated {
		c.Net = "tcp"
		in, _, err = c.ExchangeContext(ctx, q, server)
	}
	return in, err
}
