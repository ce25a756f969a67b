package server

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"magent/server/admin"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/inspect"
	"magent/upstream/repair"
	"magent/upstream/route"
)

// Where a key is, and what of it: asked by people, answered on the goroutine of who asks.
// Nodes are asked over connections of their own, never over a loop's.

const (
	// frontSize is how much of a value is shown, in bytes.
	frontSize = 256
	// mostLooks is how often replicas that differ are looked at before that is said of them,
	// and lookPause the time between: a write that is under way makes them differ for a
	// moment.
	mostLooks = 3
	lookPause = 100 * time.Millisecond
	// lookPatience is how long a node may take to be connected to, and be silent, when it is
	// looked at: nobody is in the haste of a client.
	lookPatience = 2 * time.Second
)

// keyed is a key with what this magent knows of its replicas.
type keyed struct {
	inspect.Key
	of     *poolServer
	pool   *upstream.Pool // of that
	nodes  []int          // by copy
	states []health.State // by copy, as they were just now
	lead   int            // the copy that leads; -1: none
}

// place finds out where a key is.
func (s *poolServer) place(key inspect.Key) *keyed {
	k := &keyed{Key: key, of: s, pool: s.pool}
	for c := range k.pool.Copies {
		node, state := k.pool.State(c, key.Name)
		k.nodes, k.states = append(k.nodes, node), append(k.states, state)
	}
	k.lead = leading(k.states)
	return k
}

// leading is the copy that leads, as loop.leader chooses it; -1 if none may be read.
func leading(states []health.State) int {
	best, lead := health.Stale, -1
	for c, state := range states {
		if state <= health.Slow {
			if best > health.Slow {
				lead = c
			}
			return lead
		}
		if state < best {
			best, lead = state, c
		}
	}
	return lead
}

// why says why the copy that leads does.
func (k *keyed) why() string {
	var others []string
	for c, state := range k.states[:max(k.lead, 0)] {
		others = append(others, fmt.Sprintf("%s is %s", k.pool.Nodes[k.nodes[c]].Name, state))
	}
	switch {
	case k.lead < 0:
		for c, state := range k.states {
			others = append(others, fmt.Sprintf("%s is %s", k.pool.Nodes[k.nodes[c]].Name, state))
		}
		return "nobody leads it, and a read fails: " + strings.Join(others, ", ")
	case k.states[k.lead] == health.Warming:
		return "it is warming, and no replica is better"
	case k.lead > 0:
		return fmt.Sprintf("it is %s, and %s", k.states[k.lead], strings.Join(others, ", "))
	}
	return fmt.Sprintf("it is %s, and the first in copy order", k.states[0])
}

// reads is the copy that plain reads go to, as session.enough has it.
func (k *keyed) reads() int {
	if k.of.conf.Ack != config.AckLead && k.lead >= 0 && k.states[k.lead] == health.Slow {
		if up := slices.Index(k.states, health.Up); up >= 0 {
			return up
		}
	}
	return k.lead
}

// Explain says where a key is, who answers for it, and what each replica holds.
func (s *Server) Explain(ctx context.Context, q admin.Question) (admin.Explanation, error) {
	key, err := inspect.NewKey(q.Key)
	if err != nil {
		return admin.Explanation{}, err
	}
	p, err := s.poolOf(q)
	if err != nil {
		return admin.Explanation{}, err
	}
	ctx, cancel := s.untilStopped(ctx)
	defer cancel()
	return p.explain(ctx, q, p.place(key))
}

// poolOf is the pool that q asks about: the one it names, or the one that serves its key
// wherever clients ask for it.
func (s *Server) poolOf(q admin.Question) (*poolServer, error) {
	if q.Pool != "" {
		return s.called(q.Pool)
	}
	var served []*poolServer
	for _, r := range s.loops[0].ways {
		l := r.lane(q.Key)
		if l == nil {
			continue
		}
		p := s.pools[slices.Index(s.loops[0].lanes, l)]
		if !slices.Contains(served, p) {
			served = append(served, p)
		}
	}
	switch len(served) {
	case 0:
		return nil, errors.New("no pool serves keys that begin like this")
	case 1:
		return served[0], nil
	}
	return nil, fmt.Errorf("it depends on the address that clients ask at which pool serves it: say which of %s", strings.Join(namesOf(served), ", "))
}

// called is the pool of this name.
func (s *Server) called(name string) (*poolServer, error) {
	for _, p := range s.pools {
		if p.conf.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no pool %.100s: there are %s", name, strings.Join(namesOf(s.pools), ", "))
}

func namesOf(pools []*poolServer) (names []string) {
	for _, p := range pools {
		names = append(names, p.conf.Name)
	}
	return names
}

func (s *poolServer) explain(ctx context.Context, q admin.Question, k *keyed) (e admin.Explanation, err error) {
	e = admin.Explanation{Key: admin.Text(q.Key), KeyBytes: q.Key, Pool: s.conf.Name, Placement: s.placement(k), Why: k.why()}
	if k.lead >= 0 {
		e.Lead = k.pool.Nodes[k.nodes[k.lead]].Name
		if r := k.reads(); r != k.lead {
			e.Reads = k.pool.Nodes[k.nodes[r]].Name
		}
	}
	if ours(q.Key) {
		e.Note = "magents keep keys of this kind on each node for themselves: they need not agree"
	}
	if e.Replicas, err = s.replicasOf(ctx, k); err != nil {
		return e, err
	}
	err = s.lookAt(ctx, k, q, &e)
	return e, err
}

// untilStopped is ctx, which also ends when the server is shut down.
func (s *Server) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// placement says how a key's nodes are found.
func (s *poolServer) placement(k *keyed) admin.Placement {
	spec := s.conf.Placement
	p := admin.Placement{Distribution: spec.Distribution, Hash: spec.Hash}
	for _, pl := range k.pool.Copies {
		part, hash, ok := route.Hashed(pl.Pick, k.Name)
		if !ok {
			continue // it has one node
		}
		p.Value = &hash
		if len(part) < len(k.Name) {
			p.Part = admin.Text(part)
		}
		break
	}
	return p
}

// replicasOf is what this magent knows of the replicas of k, without asking them.
func (s *poolServer) replicasOf(ctx context.Context, k *keyed) ([]admin.Replica, error) {
	debts, err := s.debtsOf(ctx, k)
	if err != nil {
		return nil, err
	}
	var all []admin.Replica
	for c, node := range k.nodes {
		last := k.pool.Monitor.Report(node).Last
		pl := &k.pool.Copies[c]
		r := admin.Replica{Copy: c, Place: slices.Index(pl.Nodes, node) + 1, Of: len(pl.Nodes), Node: k.pool.Nodes[node].Name, State: k.states[c].String(), Cause: last.Cause, Since: last.At,
			Drain: s.keepers[node].drain.Load(), Debt: debts[c]}
		all = append(all, r)
	}
	return all, nil
}

// debtsOf is whether each replica of k is owed a write of it.
func (s *poolServer) debtsOf(ctx context.Context, k *keyed) ([]admin.Debt, error) {
	all := make([]admin.Debt, len(k.nodes))
	if k.pool.Alone() {
		return all, nil
	}
	var mu sync.Mutex
	some, owed := make([]bool, len(k.nodes)), make([]bool, len(k.nodes))
	coded := base64.StdEncoding.AppendEncode(nil, k.Name) // a client may have written any key so
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	err := s.onLanes(ctx, func(l *lane) {
		mu.Lock()
		defer mu.Unlock()
		for c, node := range k.nodes {
			j := l.debts[node]
			some[c] = some[c] || j.Overflowed()
			owed[c] = owed[c] || j.Has(k.Name, false) || j.Has(coded, true)
		}
	})
	for c := range all {
		switch {
		case owed[c]:
			all[c] = admin.Owed
		case some[c]:
			all[c] = admin.SomeDebt
		default:
			all[c] = admin.NoDebt
		}
	}
	return all, err
}

// lookAt fills in what each replica of k holds, and whether that is the same.
func (s *poolServer) lookAt(ctx context.Context, k *keyed, q admin.Question, e *admin.Explanation) error {
	o := inspect.Options{Value: true}
	if q.Value {
		o.Front = frontSize
	}
	for look := 1; ; look++ {
		for c, l := range s.look(ctx, k, o) {
			e.Replicas[c].Item, e.Replicas[c].Error, e.Replicas[c].Differ = l.told(), l.failed, l.differs()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.Verdict = verdict(k, e.Replicas)
		if e.Verdict != admin.Differ || look == mostLooks {
			return nil
		}
		pause(ctx, lookPause)
	}
}

// verdict is whether the replicas of k hold the same.
func verdict(k *keyed, all []admin.Replica) admin.Verdict {
	switch {
	case !slices.ContainsFunc(k.nodes, func(n int) bool { return n != k.nodes[0] }):
		return admin.Alone
	case slices.ContainsFunc(all, func(r admin.Replica) bool { return r.Differ != "" }):
		return admin.Differ
	case slices.ContainsFunc(all, func(r admin.Replica) bool { return r.Error != "" }):
		return admin.Unknown
	}
	return admin.Agree
}

// sight is what came of looking at a key at one replica.
type sight struct {
	item       inspect.Item
	failed     string // why the node was not asked, or does not answer
	difference inspect.Difference
}

// look asks all replicas of k that are not down, at once.
func (s *poolServer) look(ctx context.Context, k *keyed, o inspect.Options) []sight {
	all := make([]sight, len(k.nodes))
	var asked sync.WaitGroup
	for c, node := range k.nodes {
		if k.states[c] == health.Down {
			all[c].failed = "it is down: " + k.pool.Monitor.Report(node).Last.Cause
			continue
		}
		asked.Go(func() {
			n := s.inspector(node)
			defer n.Close()
			items, err := n.Look(ctx, []inspect.Key{k.Key}, o)
			if err != nil {
				all[c].failed = err.Error()
				return
			}
			all[c].item, all[c].failed = items[0], items[0].Refused
		})
	}
	asked.Wait()
	if lead := max(k.lead, 0); all[lead].failed == "" {
		for c := range all {
			if all[c].failed == "" {
				all[c].difference = inspect.Compare(&all[lead].item, &all[c].item)
			}
		}
	}
	return all
}

// inspector looks at what node holds.
func (s *poolServer) inspector(node int) *inspect.Node {
	n := s.pool.Nodes[node]
	return inspect.New(inspect.Target{Target: s.entry.target(n), Silence: lookPatience})
}

// differs is the difference in words, if there is one.
func (l *sight) differs() string {
	if l.difference == inspect.Same {
		return ""
	}
	return l.difference.String()
}

// told is what was found, as people are told; nil if it is nothing.
func (l *sight) told() *admin.Item {
	it := &l.item
	if !it.Found {
		return nil
	}
	return &admin.Item{Size: it.Size, SHA256: hex.EncodeToString(it.Sum[:]), Flags: it.Flags, TTL: it.TTL, Version: it.CAS,
		Idle: int64(it.Idle.Seconds()), Fetched: it.Fetched, Stale: it.Has(repair.MarkStale), Front: it.Front}
}
