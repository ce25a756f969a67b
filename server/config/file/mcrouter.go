package file

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"magent/server/config"
	"magent/upstream/route"
)

// Mcrouter is what the text of an mcrouter.json called name comes to, with a listener at listen,
// which that file does not know. It understands routes that send each key to one pool, or to
// all of several, or of the hosts of one: those become copies. The notes say what is not the
// same. The error, of type *Faults, says what magent cannot do.
func Mcrouter(name string, text []byte, listen config.Listen) (s *Settings, notes []string, err error) {
	m := &mcrouter{imported: imported{tree: plant(plainJSON(text))}, servers: make(map[string]mcrouterPool)}
	if len(m.faults) == 0 && m.root == nil {
		m.faults = append(m.faults, Fault{Text: "it is empty"})
	}
	if m.root != nil {
		m.top(listen)
	}
	return m.settings(name)
}

// mcrouter reads one file.
type mcrouter struct {
	imported
	servers map[string]mcrouterPool
}

// mcrouterPool is a pool of mcrouter: nodes, among which keys are spread.
type mcrouterPool struct {
	nodes   []config.Node
	timeout time.Duration // 0: nothing is said
}

// plainJSON is text with blanks in place of comments, so that the places of all else stay.
func plainJSON(text []byte) []byte {
	out := slices.Clone(text)
	blank := func(from, to int) {
		for i := from; i < to; i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	for i := 0; i < len(out); i++ {
		rest := string(out[i:min(i+2, len(out))])
		end := i
		switch {
		case out[i] == '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			continue
		case rest == "//":
			end = until(text, i, "\n", 0)
		case rest == "/*":
			end = until(text, i+2, "*/", 2)
		default:
			continue
		}
		blank(i, end)
		i = end - 1
	}
	return out
}

// until is where what ends, from i on, and so many bytes more; or the end of text.
func until(text []byte, i int, what string, more int) int {
	if i < len(text) {
		if at := bytes.Index(text[i:], []byte(what)); at >= 0 {
			return i + at + more
		}
	}
	return len(text)
}

func (m *mcrouter) top(listen config.Listen) {
	var routes []entry
	for _, e := range m.mapping(m.root, "mcrouter.json") {
		switch {
		case e.value == nil:
		case e.name == "pools":
			m.readPools(e)
		case e.name == "route" || e.name == "routes":
			routes = append(routes, e)
		case e.name == "macros" || e.name == "consts":
			m.fault(e.key, "macros are not understood: write the file without them")
		default:
			m.fault(e.key, "%s is not understood", e.name)
		}
	}
	if len(routes) != 1 {
		m.fault(m.root, "one route is needed, and there are %d", len(routes))
		return
	}
	r, ok := m.only(routes[0])
	if !ok {
		return
	}
	listen.Routes = m.selector(r)
	m.listen = []config.Listen{listen}
	m.note("mcrouter.json does not say where to listen: this listens on %s, and --listen says otherwise", listen.Address)
}

// only is the one route there is: of route, or of a list of one in routes.
func (m *mcrouter) only(e entry) (ast.Node, bool) {
	if e.name == "route" {
		return e.value, true
	}
	all := m.sequence(e.value, "routes is a list")
	if len(all) != 1 {
		m.fault(e.key, "routes has %d parts, by prefixes such as /region/cluster/: magent knows no regions, and needs a single route", len(all))
		return nil, false
	}
	var found ast.Node
	for _, f := range m.mapping(all[0], "a part of routes") {
		switch f.name {
		case "route":
			found = f.value
		case "aliases":
			m.note("the prefixes in aliases are parts of keys like any other here, and are not taken off")
		default:
			m.fault(f.key, "%s is not understood", f.name)
		}
	}
	if found == nil {
		m.fault(all[0], "there is no route here")
	}
	return found, found != nil
}

func (m *mcrouter) readPools(e entry) {
	for _, p := range m.mapping(e.value, "pools") {
		if p.value != nil {
			m.servers[p.name] = m.readPool(p)
		}
	}
}

func (m *mcrouter) readPool(e entry) (p mcrouterPool) {
	for _, f := range m.mapping(e.value, "a pool") {
		text, _ := "", false
		if f.value != nil {
			text, _ = scalar(f.value)
		}
		switch f.name {
		case "servers":
			p.nodes = m.readServers(f)
		case "server_timeout":
			p.timeout = m.milliseconds(f, text, 0)
		case "protocol":
			if text != "ascii" {
				m.fault(f.value, "the protocol %q is mcrouter's own: nodes are asked in ascii", text)
			}
		case "connect_timeout", "keep_routing_prefix", "failover_exptime", "hash":
			m.note("%s of pools is left out: magent has its own", f.name)
		default:
			m.fault(f.key, "%s of a pool is not understood", f.name)
		}
	}
	if len(p.nodes) == 0 {
		m.fault(e.key, "pool %s has no servers", e.name)
	}
	return p
}

// readServers reads host:port, with the protocol and the kind of connection behind it or without.
func (m *mcrouter) readServers(f entry) (nodes []config.Node) {
	if f.value == nil {
		return nil
	}
	for _, n := range m.sequence(f.value, "servers is a list of host:port") {
		text, ok := scalar(n)
		address := strings.TrimSuffix(strings.TrimSuffix(text, ":plain"), ":ascii")
		if strings.HasPrefix(address, "/") {
			m.fault(n, "%s is a socket of this machine, and nodes are asked by TCP: have it listen on 127.0.0.1", address)
			continue
		}
		node, err := config.ParseNode(address, defaultPort)
		switch {
		case !ok:
			m.fault(n, "a server is host:port, not %s", kind(n))
		case err != nil:
			m.fault(n, "%v", err)
		default:
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// selector reads a route of any kind: one that tells prefixes apart, or one for all keys.
func (m *mcrouter) selector(n ast.Node) (routes []config.Route) {
	kind, fields := m.routeType(n)
	if kind != "PrefixSelectorRoute" {
		if pool, ok := m.pool(n); ok {
			return []config.Route{{Pool: pool}}
		}
		return nil
	}
	for _, f := range fields {
		switch {
		case f.value == nil || f.name == "type":
		case f.name == "wildcard":
			if pool, ok := m.pool(f.value); ok {
				routes = append(routes, config.Route{Pool: pool})
			}
		case f.name == "policies":
			for _, p := range m.mapping(f.value, "policies") {
				if p.value == nil {
					continue
				}
				if pool, ok := m.pool(p.value); ok {
					routes = append(routes, config.Route{Prefix: p.name, Pool: pool})
				}
			}
		default:
			m.fault(f.key, "%s of a PrefixSelectorRoute is not understood", f.name)
		}
	}
	return routes
}

// routeType is the type of a route, and its properties: those of a mapping, or one called
// short, if it is said in one word, such as PoolRoute|A.
func (m *mcrouter) routeType(n ast.Node) (kind string, fields []entry) {
	if text, ok := scalar(n); ok {
		kind, rest, _ := strings.Cut(text, "|")
		return kind, []entry{{rest, n, n, n}}
	}
	fields = m.mapping(n, "a route")
	if e := find(fields, "type"); e != nil && e.value != nil {
		kind, _ = scalar(e.value)
	}
	return kind, fields
}

// target is where a route sends a key: to one node of each copy.
type target struct {
	copies  [][]config.Node
	names   []string // of the pools that these are
	timeout time.Duration
	lead    bool // it answers before all have it
}

// equal reports whether both reach the same copies, in any order.
func (t *target) equal(o *target) bool {
	same := func(a, b []config.Node) bool { return slices.Equal(a, b) }
	for _, c := range t.copies {
		if !slices.ContainsFunc(o.copies, func(d []config.Node) bool { return same(c, d) }) {
			return false
		}
	}
	return len(t.copies) == len(o.copies)
}

// pool makes a pool of a route for all kinds of requests, or finds the one that is made already.
func (m *mcrouter) pool(n ast.Node) (name string, ok bool) {
	t := m.requests(n)
	if t == nil {
		return "", false
	}
	p := config.DefaultPool()
	p.Name, p.Copies = poolName(strings.Join(t.names, "-")), t.copies
	p.Placement = route.Spec{Distribution: "jump"}
	if t.lead {
		p.Ack = config.AckLead
	}
	if t.timeout > 0 {
		p.Timeout = t.timeout
	}
	if slices.ContainsFunc(p.Copies, func(nodes []config.Node) bool { return len(nodes) > 1 }) {
		m.note("keys are spread by jump, as there is no Ch3: what mcrouter has stored is not found")
	}
	if i := slices.IndexFunc(m.pools, func(o config.Pool) bool { return o.Name == p.Name }); i < 0 {
		m.pools = append(m.pools, p)
	} else if !(&target{copies: m.pools[i].Copies}).equal(t) || m.pools[i].Ack != p.Ack {
		p.Name += "-" + strconv.Itoa(len(m.pools)+1)
		m.pools = append(m.pools, p)
	}
	return p.Name, true
}

// Routes over several, by what they are for.
var (
	writes = strings.Fields("AllSyncRoute AllMajorityRoute AllAsyncRoute AllFastestRoute AllInitialRoute")
	early  = writes[2:] // these answer before all have it
	reads  = strings.Fields("FailoverRoute MissFailoverRoute LatestRoute")
)

// requests is where a route that may tell kinds of requests apart sends them. All are to go to
// the same copies.
func (m *mcrouter) requests(n ast.Node) *target {
	kind, fields := m.routeType(n)
	if kind != "OperationSelectorRoute" && kind != "PrefixPolicyRoute" {
		return m.target(n)
	}
	var all []*target
	var of []entry
	add := func(e entry) {
		if e.value == nil {
			return
		}
		if t := m.target(e.value); t != nil {
			all, of = append(all, t), append(of, e)
		}
	}
	for _, f := range fields {
		switch {
		case f.name == "type" || f.value == nil:
		case f.name == "default_policy":
			add(f)
		case f.name == "operation_policies":
			for _, p := range m.mapping(f.value, "operation_policies") {
				add(p)
			}
		default:
			m.fault(f.key, "%s of an %s is not understood", f.name, kind)
		}
	}
	return m.agreed(n, all, of)
}

// agreed is what all have in common, in the order in which a get goes through the copies.
func (m *mcrouter) agreed(n ast.Node, all []*target, of []entry) *target {
	if len(all) == 0 {
		if len(m.faults) == 0 {
			m.fault(n, "this route has no policies")
		}
		return nil
	}
	first := *all[0]
	for i, t := range all {
		if !t.equal(&first) {
			m.fault(of[i].key, "%s goes elsewhere than %s: in magent every write goes to all copies that are read", of[i].name, of[0].name)
			return nil
		}
		if of[i].name == "get" {
			first.copies, first.names = t.copies, t.names
		}
		first.lead = first.lead || t.lead
	}
	return &first
}

// target is where a route sends a request of any kind.
func (m *mcrouter) target(n ast.Node) *target {
	kind, fields := m.routeType(n)
	switch {
	case kind == "":
		if _, ok := pairs(n); ok {
			m.fault(n, "a route has no type")
		}
		return nil
	case kind == "PoolRoute":
		return m.poolRoute(n, fields)
	case slices.Contains(writes, kind) || slices.Contains(reads, kind):
		return m.several(n, kind, fields)
	}
	m.fault(n, "a route of type %q has no counterpart: understood are PoolRoute, %s, PrefixSelectorRoute and OperationSelectorRoute",
		kind, strings.Join(slices.Concat(writes, reads), ", "))
	return nil
}

// poolRoute is one pool, of which a key has one node.
func (m *mcrouter) poolRoute(n ast.Node, fields []entry) *target {
	name := ""
	for _, f := range fields {
		switch {
		case f.key == f.value: // in one word
			name = f.name
		case f.name == "pool" && f.value != nil:
			text, ok := scalar(f.value)
			if !ok {
				m.fault(f.value, "a pool within a route is not understood: give it a name, under pools")
				return nil
			}
			name = text
		case f.name == "hash":
			m.note("hash of routes is left out: magent has its own")
		case f.name != "type":
			m.fault(f.key, "%s of a PoolRoute is not understood", f.name)
		}
	}
	p, ok := m.servers[name]
	if !ok {
		m.fault(n, "there is no pool %q", name)
		return nil
	}
	if len(p.nodes) == 0 { // which was said
		return nil
	}
	return &target{copies: [][]config.Node{p.nodes}, names: []string{name}, timeout: p.timeout}
}

// several is all of several routes: pools, which become copies, or, of Pool|A, the hosts of one.
func (m *mcrouter) several(n ast.Node, kind string, fields []entry) *target {
	t := &target{lead: slices.Contains(early, kind)}
	for _, f := range fields {
		switch {
		case f.value == nil || f.name == "type":
		case f.key == f.value:
			m.hosts(t, n, f.name)
		case f.name == "children":
			m.children(t, f.value)
		default:
			m.note("%s of %s is left out", f.name, kind)
		}
	}
	if len(t.copies) == 0 {
		if len(m.faults) == 0 {
			m.fault(n, "%s has no children", kind)
		}
		return nil
	}
	if kind == "FailoverRoute" || kind == "MissFailoverRoute" {
		m.note("%s asks one after the other; here every write goes to all copies, so that each has what is asked of it", kind)
	}
	return t
}

// children adds what a list of routes, or one, reaches.
func (m *mcrouter) children(t *target, n ast.Node) {
	if text, ok := scalar(n); ok {
		m.hosts(t, n, text)
		return
	}
	for _, c := range m.sequence(n, "children is a list of routes") {
		if text, ok := scalar(c); ok && strings.HasPrefix(text, "Pool|") {
			m.hosts(t, c, text)
			continue
		}
		one := m.target(c)
		if one == nil {
			return
		}
		t.copies, t.names = append(t.copies, one.copies...), append(t.names, one.names...)
		t.timeout, t.lead = max(t.timeout, one.timeout), t.lead || one.lead
	}
}

// hosts adds the hosts of Pool|A, a copy each.
func (m *mcrouter) hosts(t *target, n ast.Node, text string) {
	name, ok := strings.CutPrefix(text, "Pool|")
	p, known := m.servers[name]
	if !ok || !known {
		m.fault(n, "there is no pool %q", strings.TrimPrefix(text, "Pool|"))
		return
	}
	for _, node := range p.nodes {
		t.copies = append(t.copies, []config.Node{node})
	}
	t.names, t.timeout = append(t.names, name), max(t.timeout, p.timeout)
}
