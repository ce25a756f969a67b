package file

import (
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"magent/server/config"
)

// listenFields are those of a listener that is a mapping.
var listenFields = []string{"tcp", "tls", "unix", "mode", "routes", "default"}

// listeners reads what is under listen.
func (r *reader) listeners(e *entry, pools []config.Pool) (all []config.Listen) {
	if e.value == nil {
		return nil
	}
	items := []ast.Node{e.value}
	if _, ok := scalar(e.value); !ok {
		items = r.sequence(e.value, "listen is a list of addresses")
	}
	for i, n := range items {
		r.where[field{"", index("listen", i)}] = n
		var l config.Listen
		if text, ok := scalar(n); ok {
			at, err := Listener(text)
			l = r.address(n, at, err)
		} else {
			l = r.listener(n, pools)
		}
		all = append(all, l)
	}
	return all
}

// Listener is the one that a text means: a path with a slash; or host, host:port, or :port of every
// address of the machine.
func Listener(text string) (config.Listen, error) {
	if strings.Contains(text, "/") {
		return unixListener(text)
	}
	return tcpListener(text)
}

func tcpListener(text string) (config.Listen, error) {
	if strings.HasPrefix(text, ":") && strings.Count(text, ":") == 1 { // with more it is IPv6
		text = "0.0.0.0" + text
	}
	node, err := config.ParseNode(text, defaultPort)
	return config.Listen{Network: "tcp", Address: node.Address()}, err
}

func unixListener(path string) (config.Listen, error) {
	return config.Listen{Network: "unix", Address: path, Mode: 0o644}, config.ValidSocket(path)
}

// address is a listener that a function above has made of what is at n.
func (r *reader) address(n ast.Node, l config.Listen, err error) config.Listen {
	if err != nil {
		r.fault(n, "%v", err)
	}
	return l
}

// listener reads one that is a mapping.
func (r *reader) listener(n ast.Node, pools []config.Pool) (l config.Listen) {
	if _, ok := pairs(n); !ok {
		r.fault(n, "a listener is an address, or a mapping of an address and more, and this is %s", kind(n))
		return l
	}
	var at, mode *entry
	var routes []config.Route
	for _, e := range r.mapping(n, "a listener") {
		switch {
		case !slices.Contains(listenFields, e.name):
			r.unknown(e, "a listener", listenFields, nil)
		case e.value == nil:
		case e.name == "routes":
			routes = append(routes, r.routes(e, pools)...)
		case e.name == "default":
			if pool, ok := r.poolName(e, pools); ok {
				routes = append(routes, config.Route{Pool: pool})
			}
		case e.name == "mode":
			mode = &e
		case at != nil:
			r.fault(e.key, "a listener has one address, and this is the second: make it a listener of its own")
		default:
			at = &e
		}
	}
	if at == nil {
		r.fault(n, "a listener has no address: say tcp: or tls: host:port, or unix: /path")
		return l
	}
	text, ok := scalar(at.value)
	switch {
	case !ok:
		r.fault(at.value, "%s takes an address, not %s", at.name, kind(at.value))
	case at.name == "unix":
		socket, err := unixListener(text)
		l = r.address(at.value, socket, err)
	default:
		port, err := tcpListener(text)
		l = r.address(at.value, port, err)
		l.TLS = at.name == "tls"
	}
	if mode != nil {
		l.Mode = r.mode(*mode, at.name)
	}
	l.Routes = routes
	return l
}

// mode reads the permissions of a socket.
func (r *reader) mode(e entry, of string) uint32 {
	text, _ := scalar(e.value)
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	switch {
	case of != "unix":
		r.fault(e.key, "mode is of a unix socket, and this is none")
	case err != nil || bits == 0 || bits > 0o777:
		r.fault(e.value, "mode takes octal digits such as 0660, not %s", kind(e.value))
	}
	return uint32(bits)
}

// routes reads a mapping of prefixes to pools.
func (r *reader) routes(e entry, pools []config.Pool) (all []config.Route) {
	for _, e := range r.mapping(e.value, "routes, of prefixes and pools,") {
		if e.name == "" {
			r.fault(e.key, "every key begins with this: say default, beside routes")
			continue
		}
		if pool, ok := r.poolName(e, pools); ok {
			all = append(all, config.Route{Prefix: e.name, Pool: pool})
		}
	}
	return all
}

// poolName reads the name of a pool that there is.
func (r *reader) poolName(e entry, pools []config.Pool) (name string, ok bool) {
	if e.value == nil {
		return "", false
	}
	name, ok = scalar(e.value)
	if !ok {
		r.fault(e.value, "%q takes the name of a pool, not %s", e.name, kind(e.value))
		return "", false
	}
	var names []string
	for i := range pools {
		names = append(names, pools[i].Name)
	}
	if slices.Contains(names, name) {
		return name, true
	}
	if near := nearest(name, names); near != "" {
		r.fault(e.value, "there is no pool %q: is %s meant?", name, near)
	} else {
		r.fault(e.value, "there is no pool %q: there are %s", name, list(names))
	}
	return "", false
}
