package file

import (
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/spf13/pflag"

	"magent/server/config"
)

// defaultPort is a node's, and a listener's.
const defaultPort = 11211

// pools reads what is under pools, in its order.
func (r *reader) pools(e *entry) (all []config.Pool) {
	for _, pool := range r.mapping(e.value, "pools") {
		r.where[field{pool.name, ""}] = pool.key
		p := config.DefaultPool()
		p.Name = pool.name
		if pool.value != nil {
			r.pool(&p, pool)
		}
		all = append(all, p)
	}
	return all
}

// pool reads one.
func (r *reader) pool(p *config.Pool, e entry) {
	fs := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	config.BindPool(fs, p)
	names, elsewhere := append([]string{"copies"}, Pool()...), Process()
	before, copies := len(r.faults), false
	fields := r.mapping(e.value, "a pool")
	for _, e := range fields {
		r.where[field{p.Name, e.name}] = e.at()
		switch {
		case e.name == "copies":
			copies = true
			r.copies(p, e)
		case !slices.Contains(names, e.name):
			r.unknown(e, "a pool", names, elsewhere)
		default:
			r.set(fs, e)
		}
	}
	if !copies && (len(fields) > 0 || len(r.faults) == before) {
		r.fault(e.key, "pool %s has no copies: say copies, with a list of nodes for each", p.Name)
	}
}

// copies reads a list of lists of nodes.
func (r *reader) copies(p *config.Pool, e entry) {
	if e.value == nil {
		return
	}
	for i, list := range r.sequence(e.value, "copies is a list of copies, the primaries first") {
		r.where[field{p.Name, index("copies", i)}] = list
		nodes := []config.Node{} // of a copy that is there, if broken
		for j, n := range r.sequence(list, "a copy is a list of nodes, such as [10.0.0.1:11211, 10.0.0.2:11211]") {
			r.where[field{p.Name, index(index("copies", i), j)}] = n
			if node, ok := r.cacheNode(n); ok {
				nodes = append(nodes, node)
			}
		}
		p.Copies = append(p.Copies, nodes)
	}
}

// cacheNode reads `host:port`, `host:port name`, or a mapping.
func (r *reader) cacheNode(n ast.Node) (node config.Node, ok bool) {
	text, ok := scalar(n)
	if !ok {
		return r.nodeMapping(n)
	}
	address, name, _ := strings.Cut(strings.TrimSpace(text), " ")
	node, err := config.ParseNodes(address, defaultPort)
	if err != nil {
		r.fault(n, "%v", err)
		return node, false
	}
	node.Name = strings.TrimSpace(name)
	return node, true
}

// nodeMapping reads a node as a mapping of address, name and weight.
func (r *reader) nodeMapping(n ast.Node) (node config.Node, ok bool) {
	const what = "a node"
	if _, ok := pairs(n); !ok {
		r.fault(n, "a node is host:port, host:port and a name, or a mapping of address, name and weight, and this is %s", kind(n))
		return node, false
	}
	before, name, weight := len(r.faults), "", 0
	for _, e := range r.mapping(n, what) {
		text, isScalar := "", false
		if e.value != nil {
			text, isScalar = scalar(e.value)
		}
		switch {
		case !slices.Contains(nodeFields, e.name):
			r.unknown(e, what, nodeFields, nil)
		case !isScalar:
			r.fault(e.key, "%s of a node has no value", e.name)
		case e.name == "address":
			var err error
			if node, err = config.ParseNodes(text, defaultPort); err != nil {
				r.fault(e.value, "%v", err)
			}
		case e.name == "name":
			name = text
		default:
			w, err := strconv.ParseUint(text, 10, 31)
			if err != nil || w == 0 {
				r.fault(e.value, "weight takes a whole number above 0, not %q", text)
			}
			weight = int(w)
		}
	}
	if len(r.faults) == before && node.Host == "" {
		r.fault(n, "a node has no address: say address: host:port")
	}
	node.Name, node.Weight = name, weight
	return node, len(r.faults) == before
}

// nodeFields are those of a node that is a mapping.
var nodeFields = []string{"address", "name", "weight"}
