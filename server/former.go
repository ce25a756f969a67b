package server

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/probe"
)

// When a pool's nodes, or its distribution, are not those of the process before this one, most
// keys are where that had them, and not where they are looked for. So for a while a key has
// former owners: the nodes that had it and are no longer to have it.
//
//	a read        where it is now; missed: at a former owner. What is there is the answer,
//	              and the key moves                                          (former.go)
//	a write       the former owners lose the key, then it is written; if it depends on what
//	              there is, the key moves before that                        (settle.go)
//	beside        all keys of former owners move, node by node              (migrate.go)
//
// A key moves as a refill has it copied: it is added where it is to be, and verified; then the
// former owners lose it. A write never leaves a former owner with a value: so what one holds
// is what the key is, if nobody else has it. One that cannot be told to lose a key is not asked
// any more.

// former is where the keys of a pool were.
type former struct {
	pool  *upstream.Pool
	conf  config.Pool   // what it was, as where has it
	twins []int         // by node: the same one in the present pool, -1 if it has left
	lost  []atomic.Bool // by node: it may hold what is old, and is not asked any more
	until time.Time
	moves atomic.Bool   // the process before this one writes no more, so keys may move
	held  chan struct{} // of the gates that hold writes until then
	once  sync.Once
}

// placed is what a process tells of a pool to the next one: where keys are, and where they were
// if not all have moved.
type placed struct {
	Pool   config.Pool
	Former *config.Pool  `json:",omitempty"`
	Left   time.Duration `json:",omitempty"` // for which Former is asked yet
}

// placements is what the next process is told of all pools; nil if it is too much to be told.
func (s *Server) placements() []byte {
	var all []placed
	for _, p := range s.pools {
		one := placed{Pool: where(p.conf)}
		if f := p.former.Load(); f != nil {
			one.Former, one.Left = &f.conf, time.Until(f.until)
		}
		all = append(all, one)
	}
	text, err := json.Marshal(all)
	if err != nil || len(text) > maxPlacements {
		s.log.Warn("the next process is not told where keys are", "cause", "too many nodes")
		return nil
	}
	return text
}

// maxPlacements bounds that, in bytes: it goes with one message.
const maxPlacements = 64 << 10

// where is the part of p that says where keys are, and how nodes let this magent in, by the paths
// of files.
func where(p *config.Pool) config.Pool {
	return config.Pool{Name: p.Name, Copies: p.Copies, Placement: p.Placement, Access: p.Access}
}

// sameWhere reports whether keys are where they were.
func sameWhere(now, was config.Pool) bool {
	now.Access = was.Access
	return reflect.DeepEqual(now, was)
}

// follows has pools whose keys the process before this one had elsewhere know that. text is its
// placements. The loops do not run yet.
func (s *Server) follows(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var all []placed
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	for _, was := range all {
		i := slices.IndexFunc(s.pools, func(p *poolServer) bool { return p.conf.Name == was.Pool.Name })
		if i < 0 {
			continue
		}
		p, from, left := s.pools[i], &was.Pool, s.pools[i].conf.MigrateFor
		if sameWhere(where(p.conf), was.Pool) {
			from, left = was.Former, min(left, was.Left)
		}
		if from == nil || left <= 0 {
			continue
		}
		if err := p.remember(from, left); err != nil {
			p.log.Warn("keys are not looked for where they were", "cause", err.Error())
		}
	}
	return nil
}

// remember has the pool's keys be looked for where from has them, for so long.
func (s *poolServer) remember(from *config.Pool, left time.Duration) error {
	pool, err := newPool(from)
	if err != nil {
		return err
	}
	f := &former{pool: pool, conf: *from, lost: make([]atomic.Bool, len(pool.Nodes)), until: time.Now().Add(left),
		held: make(chan struct{}, len(s.loops))}
	for _, n := range pool.Nodes {
		f.twins = append(f.twins, s.at(n.Address))
	}
	switch {
	case !f.moved(s.pool):
		return nil
	case from.Access != s.conf.Access:
		return errors.New("nodes let this magent in by another way then")
	case from.Access.Binary:
		return errors.New("nodes that speak the binary protocol alone do not tell for how long they have them")
	}
	limits := limitsOf(s.conf)
	limits.Hold = 0
	pool.Monitor = health.NewMonitor(pool.Health, f.watch(s), limits)
	s.former.Store(f)
	for _, l := range s.lanes() {
		l.former = &formerLane{former: f, group: upstream.NewGroup(pool, l, l.limits())}
		l.migrating++
	}
	s.log.Info("keys are looked for where they were, too", "nodes", len(pool.Nodes), "for at most", left)
	return nil
}

// sampledKeys is of how many keys moved finds out whether they have another place.
const sampledKeys = 1 << 12

// moved reports whether any key has a former owner.
func (f *former) moved(now *upstream.Pool) bool {
	var key [16]byte
	for i := range sampledKeys {
		k := append(key[:0], "key:"...)
		for n := i; n > 0; n /= 10 {
			k = append(k, byte('0'+n%10))
		}
		if _, n := f.owners(now, k); n > 0 {
			return true
		}
	}
	return false
}

// watch is what the monitor of the former nodes needs. They owe nothing, and nothing is owed to
// them: one that answers is as good as it was.
func (f *former) watch(s *poolServer) health.Watch {
	probers := make([]*probe.Prober, len(f.pool.Nodes))
	for i, n := range f.pool.Nodes {
		probers[i] = probe.New(s.targetOf(n), "", false)
	}
	return health.Watch{
		Probe: func(ctx context.Context, i int) (time.Duration, error) { return probers[i].RoundTrip(ctx) },
		Arrive: func(_ context.Context, i int) (health.State, string, error) {
			f.pool.Nodes[i].SetLife(0)
			return health.Up, "it answers", nil
		},
		Heal: func(context.Context, int, health.Word) (health.State, string, error) {
			return health.Down, "", errors.New("it has no debt")
		},
		Needed: func(int) bool { return true },
		Notify: func(c health.Change) {
			s.log.Debug("former node "+c.To.String(), "node", f.pool.Nodes[c.Node].Name, "cause", c.Cause)
		},
	}
}

// owners is the nodes that had key, and are not to have it now, and how many they are.
func (f *former) owners(now *upstream.Pool, key []byte) (nodes [upstream.MaxCopies]int, n int) {
	for c := range f.pool.Copies {
		node := f.pool.Replica(c, key)
		has := slices.Contains(nodes[:n], node)
		for d := 0; d < len(now.Copies) && !has; d++ {
			has = now.Replica(d, key) == f.twins[node]
		}
		if !has {
			nodes[n] = node
			n++
		}
	}
	return nodes, n
}

// hold has writes wait, as long as the process before this one may write where keys were.
func (s *poolServer) hold() {
	f := s.former.Load()
	if f == nil {
		return
	}
	for _, l := range s.lanes() {
		_ = l.do(func() { l.closeGate(f.held) })
	}
}

// letGo ends hold, and has keys move from now on.
func (s *poolServer) letGo() {
	f := s.former.Load()
	if f == nil || !f.moves.CompareAndSwap(false, true) {
		return
	}
	for _, l := range s.lanes() {
		_ = l.do(func() { l.openGate(f.held) }) // a loop that has ended holds nobody
	}
	go s.migrate(f)
}

// forget ends the looking for keys where they were. why is for the log.
func (s *poolServer) forget(f *former, why string) {
	f.once.Do(func() {
		s.log.Info("keys are no longer looked for where they were", "cause", why)
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		var left atomic.Int64
		_ = waitFor(ctx, func() bool {
			left.Store(0)
			err := s.onLanes(ctx, func(l *lane) {
				if l.leave(); l.left != nil {
					left.Add(int64(l.left.underWay + l.left.group.Pending()))
				}
			})
			return err != nil || left.Load() == 0 // a loop that has ended has none
		})
		last, end := context.WithTimeout(context.Background(), lastWords)
		defer end()
		_ = s.onLanes(last, func(l *lane) { l.forget() })
		f.pool.Monitor.Close()
		s.former.CompareAndSwap(f, nil)
	})
}

// formerLane is what a lane has of where keys were.
type formerLane struct {
	*former
	group    *upstream.Group
	underWay int               // moves and settlements
	flushed  bool              // and all that was there is gone
	moving   [movesAtOnce]bool // by part of the hash of a key that moves
}

// movesAtOnce bounds the keys that a lane moves at once, of those that it was asked for.
const movesAtOnce = 1024

// leave has nothing more begin with former owners.
func (l *lane) leave() {
	if l.former != nil {
		l.former, l.left = nil, l.former
		l.migrating--
	}
}

// forget ends what is under way there.
func (l *lane) forget() {
	l.leave()
	if f := l.left; f != nil {
		l.left = nil
		f.group.Close()
	}
}

// previous is where keys are looked for, or something is under way yet; nil: nowhere else.
func (l *lane) previous() *formerLane {
	if l.former != nil {
		return l.former
	}
	return l.left
}

// formerCopy is the copy of a slot whose key is asked for at a former owner.
const formerCopy = 0xff

// askFormer asks a former owner for what is not where it is to be, and the next for what one does
// not have: it may have been told to lose what was old there alone. What changes an item, or
// hands out the right to make it anew, was made to wait until the key had moved.
func (s *session) askFormer(c *upstream.Conn, p *upstream.Pending, sl *slot) bool {
	l := sl.lane
	switch {
	case p.Leg == legAgain || p.Leg == legResume || sl.is(slotHit):
		return false
	case l.former == nil:
		return p.Leg == legFormer && s.askAgain(p, sl)
	}
	wants, may := formerly(p)
	if !may {
		return false
	}
	f, key := l.former, l.routeKey(p)
	owners, n := f.owners(l.pool, key)
	from := 0
	if p.Leg == legFormer {
		from = slices.Index(owners[:n], c.Node().Index) + 1
	}
	for _, node := range owners[from:n] {
		if !l.readable(f, node) || !l.ask(f.group.Conn(node, s.id), p, legFormer) {
			continue
		}
		sl.copy, sl.flags = formerCopy, sl.flags|wants&slotVersion
		return true
	}
	return p.Leg == legFormer && s.askAgain(p, sl)
}

// formerly is what p asks for beside the value, and whether former owners may be asked it.
func formerly(p *upstream.Pending) (wants slotFlags, may bool) {
	switch {
	case p.Op == codec.OpMetaDebug:
		return 0, false
	case p.Op.Meta():
		line := p.Line()
		var req codec.Request
		text.Parse(line, &req)
		wants = metaFlags(&req)
		return wants, wants&slotMutates == 0 && !req.Meta.Has('R')
	}
	wants = keyFlags[p.Op]
	return wants, wants&slotMutates == 0
}

// formerReply hears a former owner.
func (s *session) formerReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	l := s.slots.at(p.Seq).lane
	s.readReply(c, p, r, b)
	if r.Kind == codec.KindValue || r.Kind == codec.KindLine {
		l.foundFormerly(c, p) // last: it may end c
	}
}

// askAgain asks for a key where it is to be once more: it may have moved there after it was asked
// for, and before a former owner was.
func (s *session) askAgain(p *upstream.Pending, sl *slot) bool {
	l := sl.lane
	c, copy := l.leader(l.routeKey(p), 0, s.id)
	if c == nil || !l.ask(c, p, legAgain) {
		return false
	}
	sl.copy, sl.tried = copy, sl.tried|1<<copy
	if l.pool.Alone() {
		sl.flags &^= slotVersion // versions are told there as they are
	}
	return true
}

// formerFailed hears that a former owner does not answer: then the key is nowhere.
func (s *session) formerFailed(c *upstream.Conn, p *upstream.Pending) {
	sl := s.slots.at(p.Seq)
	switch {
	case sl.is(slotPartial) && !sl.is(slotWaits) && s.slots.first(p.Seq):
		s.giveUp(p.Seq)
		return
	case sl.is(slotHit) && !sl.is(slotPartial): // only its END did not come
		s.readReply(c, p, &end, nil)
		return
	}
	s.drop(sl)
	sl.flags &^= slotHit | slotPartial | slotWaits
	if p.Op.Meta() {
		s.readReply(c, p, &codec.Reply{Kind: codec.KindMiss, Line: uint32(len(lineEN))}, lineEN)
		return
	}
	s.readReply(c, p, &end, nil)
}

// foundFormerly has a key move that was found at the node of c by p.
func (l *lane) foundFormerly(c *upstream.Conn, p *upstream.Pending) {
	l.count.Former++
	if f := l.former; f != nil && f.moves.Load() {
		key, base64 := written(p)
		l.move(l.routeKey(p), key, base64, c.Node().Index)
	}
}

// readable reports whether what the former owner node has of a key is what the key is.
func (l *lane) readable(f *formerLane, node int) bool {
	twin := f.twins[node]
	return !f.lost[node].Load() && f.pool.Health.Load(node).State() <= health.Slow &&
		(twin < 0 || l.pool.Health.Load(twin).State() <= health.Slow)
}
