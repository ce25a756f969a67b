package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/server/config"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/route"
)

// poolServer is what a server has of one pool, beside its lanes.
type poolServer struct {
	*Server
	index    int // its place among the server's
	conf     *config.Pool
	log      *slog.Logger
	entry    entry // how its nodes are reached
	pool     *upstream.Pool
	keepers  []*keeper              // by node
	former   atomic.Pointer[former] // where its keys were; nil: nowhere else
	operator sync.Mutex             // held while a node is drained, or is no longer
	diffing  sync.Mutex             // held while copies are compared
}

func newPoolServer(of *Server, index int) (*poolServer, error) {
	s := &poolServer{Server: of, index: index, conf: &of.cfg.Pools[index], log: of.log}
	if len(of.cfg.Pools) > 1 {
		s.log = of.log.With("pool", s.conf.Name)
	}
	var err error
	if s.pool, err = newPool(s.conf); err != nil {
		return nil, err
	}
	if s.entry, err = newEntry(s.conf, s.log); err != nil {
		return nil, err
	}
	for _, n := range s.pool.Nodes {
		s.keepers = append(s.keepers, newKeeper(s, n))
	}
	s.pool.Monitor = health.NewMonitor(s.pool.Health, s.watch(), limitsOf(s.conf))
	return s, nil
}

// newPool resolves the nodes of cfg and places the key space on them. A server
// that stands in several copies is one node.
func newPool(cfg *config.Pool) (*upstream.Pool, error) {
	var nodes []*upstream.Node
	index := map[string]int{}
	var copies []upstream.Placement
	for _, list := range cfg.Copies {
		var pl upstream.Placement
		var servers []route.Server
		for _, n := range list {
			addr, err := net.ResolveTCPAddr("tcp", n.Dial())
			if err != nil {
				return nil, fmt.Errorf("unknown host %q: %w", n.Host, err)
			}
			i, known := index[addr.String()]
			if !known {
				i = len(nodes)
				index[addr.String()] = i
				made := upstream.NewNode(n.String(), "tcp", addr.String())
				made.Host = n.Host
				nodes = append(nodes, made)
			}
			pl.Nodes = append(pl.Nodes, i)
			servers = append(servers, route.Server{Host: n.Host, Port: n.Port, Name: n.Name, Weight: n.Weight})
		}
		pick, err := route.New(cfg.Placement, servers)
		if err != nil {
			return nil, err
		}
		pl.Pick = pick
		copies = append(copies, pl)
	}
	return upstream.NewPool(nodes, copies), nil
}

// lanes is what the loops have of it, by loop.
func (s *poolServer) lanes() []*lane {
	all := make([]*lane, len(s.loops))
	for i, l := range s.loops {
		all[i] = l.lanes[s.index]
	}
	return all
}

// onLanes runs f on every lane and waits for all of them.
func (s *poolServer) onLanes(ctx context.Context, f func(*lane)) error {
	return s.onLoops(ctx, func(l *loop) { f(l.lanes[s.index]) })
}

// changes counts the changes of state of all nodes.
func (s *Server) changes() (n uint64) {
	for _, p := range s.pools {
		n += p.pool.Health.Changes()
	}
	return n
}

// changed logs a node's change of state and, when it is back, has the loops
// connect before they are asked to. It is on the goroutine of the node's prober.
func (s *poolServer) changed(c health.Change) {
	node := s.pool.Nodes[c.Node]
	level := slog.LevelInfo
	if c.To == health.Down || c.To == health.Slow {
		level = slog.LevelWarn
	}
	if c.To == health.Down {
		node.Fell(c.Cause)
		s.fell(node.Name)
	}
	s.log.Log(context.Background(), level, "node "+c.To.String(), "node", node.Name, "was", c.From.String(), "cause", c.Cause, "epoch", c.Epoch)
	s.keepers[c.Node].openGates()
	s.keepers[c.Node].follow(s.ctx, c)
	if c.From == health.Down && s.running.Load() {
		spareFor(time.Second) // for the dials
		for _, l := range s.lanes() {
			l.do(func() { l.group.Connect(c.Node) })
		}
	}
	s.settleDrains(c.Node)
}

// keepers are those of all pools.
func (s *Server) keepers() (all []*keeper) {
	for _, p := range s.pools {
		all = append(all, p.keepers...)
	}
	return all
}

// unshared is an error if two pools share a node, and may not. Names that mean one address
// only the resolver can tell.
func (s *Server) unshared() error {
	for i, p := range s.pools {
		for _, o := range s.pools[:i] {
			for _, n := range p.pool.Nodes {
				if o.at(n.Address) >= 0 && !(p.pool.Alone() && o.pool.Alone()) {
					return fmt.Errorf("%s is in the pools %s and %s: only pools of one copy may share a node", n.Address, o.conf.Name, p.conf.Name)
				}
			}
		}
	}
	return nil
}

// at is the index of the node at address; -1 if there is none.
func (s *poolServer) at(address string) int {
	return slices.IndexFunc(s.pool.Nodes, func(n *upstream.Node) bool { return n.Address == address })
}
