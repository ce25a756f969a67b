package file

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"magent/server/config"
	"magent/upstream/route"
)

// imported is what another program's file comes to.
type imported struct {
	*tree
	listen     []config.Listen
	pools      []config.Pool
	maxClients int // 0: nothing is said
	notes      []string
}

// note says once what is not as it was.
func (i *imported) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(i.notes, text) {
		i.notes = append(i.notes, text)
	}
}

// settings is what has been gathered, or what is wrong.
func (i *imported) settings(name string) (*Settings, []string, error) {
	s := Empty()
	if i.maxClients > 0 {
		_ = s.set.Set("max-conns", strconv.Itoa(i.maxClients)) // it is a number
	}
	s.Config, _ = s.Flags.Process() // of which no more was said
	s.Listen, s.Pools = i.listen, i.pools
	if len(i.faults) == 0 {
		for _, err := range split(s.Validate()) {
			i.faults = append(i.faults, Fault{Text: err.Error()})
		}
	}
	if len(i.faults) > 0 {
		faults := &Faults{Name: name, All: i.faults, lines: i.lines}
		faults.sort()
		return nil, nil, faults
	}
	return s, i.notes, nil
}

// Twemproxy is what the text of a nutcracker.yml called name comes to: a pool and a listener
// for each of its pools, where keys are placed as they were. The notes say what is not the
// same. The error, of type *Faults, says what magent cannot do.
func Twemproxy(name string, text []byte) (s *Settings, notes []string, err error) {
	i := &imported{tree: plant(text)}
	if len(i.faults) == 0 && i.root == nil {
		i.faults = append(i.faults, Fault{Text: "it is empty"})
	}
	if i.root != nil {
		for _, e := range i.mapping(i.root, "nutcracker.yml") {
			i.nutcracker(e)
		}
	}
	return i.settings(name)
}

// What a pool of nutcracker.yml may have (notes/recommendation.md and src/nc_conf.c of twemproxy).
const (
	ignored = "backlog preconnect tcpkeepalive server_failure_limit reuse_port" // no such thing, or by itself
	redis   = "redis_auth redis_db command"
)

// nutcracker reads one pool.
func (i *imported) nutcracker(e entry) {
	p := config.DefaultPool()
	p.Name = poolName(e.name)
	p.Placement = route.Spec{Distribution: "ketama"}
	listens, timeout := false, false
	for _, f := range i.mapping(e.value, "a pool of nutcracker.yml") {
		text, ok := "", false
		if f.value != nil {
			text, ok = scalar(f.value)
		}
		switch {
		case f.name == "servers":
			p.Copies = [][]config.Node{i.nutcrackerServers(f)}
		case !ok && !strings.Contains(redis, f.name):
			i.fault(f.key, "%s has no value", f.name)
		case f.name == "listen":
			listens = true
			i.nutcrackerListen(f, text, p.Name)
		case f.name == "hash":
			p.Placement.Hash = text
		case f.name == "hash_tag":
			p.Placement.Tag = text
		case f.name == "distribution":
			p.Placement.Distribution = i.nutcrackerDistribution(f, text)
		default:
			timeout = timeout || f.name == "timeout"
			i.nutcrackerSetting(&p, f, text)
		}
	}
	if !listens {
		i.fault(e.key, "pool %s does not say where to listen", e.name)
	}
	if len(p.Copies) == 0 {
		i.fault(e.key, "pool %s has no servers", e.name)
	}
	if !timeout {
		i.note("pool %s has no timeout, and waits for ever: here it is %v", e.name, p.Timeout)
	}
	if p.Placement.Distribution != "ketama" && p.Placement.Distribution != "modula" {
		p.Placement.Hash = "" // a fault was told
	}
	i.pools = append(i.pools, p)
}

// nutcrackerSetting reads what is neither an address nor of the placement.
func (i *imported) nutcrackerSetting(p *config.Pool, f entry, text string) {
	switch f.name {
	case "timeout":
		p.Timeout = i.milliseconds(f, text, p.Timeout)
	case "server_retry_timeout":
		p.RetryTimeout = i.milliseconds(f, text, p.RetryTimeout)
	case "server_connections":
		p.ConnsPerNode = i.count(f, text)
	case "client_connections":
		i.maxClients += i.count(f, text)
	case "auto_eject_hosts":
		if text == "true" {
			i.note("auto_eject_hosts has no counterpart: keys do not move to other nodes when one fails. " +
				"A second copy, under copies, keeps them there to be read")
		}
	case "redis":
		if text != "false" {
			i.fault(f.key, "this is a pool of Redis: magent speaks memcached only")
		}
	default:
		switch {
		case slices.Contains(strings.Fields(ignored), f.name):
		case slices.Contains(strings.Fields(redis), f.name):
			i.fault(f.key, "%s is for Redis: magent speaks memcached only", f.name)
		default:
			i.fault(f.key, "twemproxy has no %s", f.name)
		}
	}
}

// milliseconds reads a time, unless it is -1, which is the default.
func (i *imported) milliseconds(f entry, text string, d time.Duration) time.Duration {
	if text == "-1" {
		return d
	}
	return time.Duration(i.count(f, text)) * time.Millisecond
}

func (i *imported) count(f entry, text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		i.fault(f.value, "%s takes a whole number above 0, not %q", f.name, text)
	}
	return int(n)
}

func (i *imported) nutcrackerDistribution(f entry, text string) string {
	switch text {
	case "random":
		i.fault(f.value, "random puts each key wherever it likes, so that nothing is found again: magent has ketama and modula")
	case "ketama", "modula":
	default:
		i.fault(f.value, "twemproxy has no distribution %q", text)
	}
	return text
}

// nutcrackerListen reads host:port, a port alone, or a path and the mode of its socket.
func (i *imported) nutcrackerListen(f entry, text, pool string) {
	l := config.Listen{Network: "tcp", Routes: []config.Route{{Pool: pool}}}
	if strings.HasPrefix(text, "/") {
		path, mode, _ := strings.Cut(text, " ")
		l.Network, l.Address, l.Mode = "unix", path, 0o644
		if mode != "" {
			bits, err := strconv.ParseUint(strings.TrimSpace(mode), 8, 32)
			if err != nil || bits == 0 || bits > 0o777 {
				i.fault(f.value, "%q is no mode of a socket", mode)
			}
			l.Mode = uint32(bits)
		}
		i.listen = append(i.listen, l)
		return
	}
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		text = "0.0.0.0:" + text
	}
	node, err := config.ParseNode(text, defaultPort)
	if err != nil {
		i.fault(f.value, "%v", err)
	}
	l.Address = node.Address()
	i.listen = append(i.listen, l)
}

// nutcrackerServers reads a list of host:port:weight, with a name behind it or without.
func (i *imported) nutcrackerServers(f entry) (nodes []config.Node) {
	if f.value == nil {
		return nil
	}
	for _, n := range i.sequence(f.value, "servers is a list of host:port:weight") {
		text, ok := scalar(n)
		if !ok {
			i.fault(n, "a server is host:port:weight, not %s", kind(n))
			continue
		}
		node, err := nutcrackerServer(text)
		if err != nil {
			i.fault(n, "%v", err)
			continue
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func nutcrackerServer(text string) (config.Node, error) {
	where, name, _ := strings.Cut(text, " ")
	address, weight, ok := cutLast(where, ":")
	w, err := strconv.ParseUint(weight, 10, 31)
	switch {
	case strings.HasPrefix(text, "/"):
		return config.Node{}, fmt.Errorf("%s is a socket of this machine, and nodes are asked by TCP: have it listen on 127.0.0.1", where)
	case !ok || err != nil || w == 0:
		return config.Node{}, fmt.Errorf("%q is not host:port:weight", where)
	}
	if strings.Count(address, ":") > 1 { // an IPv6 address, without brackets
		host, port, _ := cutLast(address, ":")
		if !strings.HasPrefix(host, "[") {
			address = "[" + host + "]:" + port
		}
	}
	node, err := config.ParseNode(address, defaultPort)
	if node.Name, node.Weight = strings.TrimSpace(name), int(w); w == 1 {
		node.Weight = 0
	}
	return node, err
}

// poolName is a name of a pool as like that as a pool here may have.
func poolName(name string) string {
	ok := func(r rune) rune {
		if config.InPoolName(r) {
			return r
		}
		return '_'
	}
	return strings.Map(ok, name)
}
