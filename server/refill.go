package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"magent/upstream"
	"magent/upstream/dial"
	"magent/upstream/dump"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/refill"
)

// The refill of a cold node by this magent: from each node that leads keys of it now, the
// keys that it lists, hottest first, copied and verified by package refill. It is on
// goroutines of its own, of warm and of refill.Run; but copies while a loop serves clients are
// made on that loop: see guest.go.
//
//	refill → from → crawl → copy … mend

const (
	// passKeys and passBytes bound the keys that are listed at a time: what is more takes
	// further passes.
	passKeys  = 2 << 20
	passBytes = 128 << 20
	// told is how often the log says how far a refill is.
	told = 10 * time.Second
)

// Refill is how far the refill of a node is.
type Refill struct {
	Phase string  // what is being done, and with which source
	Done  uint64  // keys that have been looked at
	Total uint64  // keys there are, of the sources listed so far; 0: not known yet
	Keys  float64 // per second, of late
	Bytes float64 // of values per second, of late
	Full  float64 // the part of --resync-rate that live traffic leaves it, 1 for all
	Since time.Time
}

// ETA is how long it will take yet; ok is false if nobody knows.
func (r *Refill) ETA() (d time.Duration, ok bool) {
	if r.Total == 0 || r.Keys < 1 {
		return 0, false
	}
	return time.Duration(float64(r.Total-min(r.Done, r.Total)) / r.Keys * float64(time.Second)), true
}

// refill copies to the node, which is Warming, all that it is to hold.
// It is complete only if every key that may be missing has had a node to be read from,
// from beginning to end.
func (k *keeper) refill(ctx context.Context) error {
	s, began := k.srv, time.Now()
	r := &refillRun{keeper: k, lodging: lodging{giveBack: takeSpareP()}, logged: began}
	defer func() { r.giveBack() }() // that of the last visit
	stepBack()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if dead := k.debtors.look(ctx).Dead; len(dead) > 0 { // sooner than when all is copied
		return errors.Join(errDied, k.forsake(ctx, dead))
	}
	peers := s.stances(k.node.Index)
	sources, err := s.sources(k.node.Index)
	if err != nil {
		return err
	}
	var names []string
	for _, i := range sources {
		names = append(names, s.pool.Nodes[i].Name)
	}
	s.log.Info("this magent refills a node", "node", k.node.Name, "from", names)
	r.peers, r.cancel, r.state = peers, cancel, Refill{Full: s.opening(sources), Since: began}
	defer k.progress.Store(nil)
	for _, source := range k.inOrder(sources) {
		if err := r.from(ctx, source); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return err
		}
	}
	if _, err := s.sources(k.node.Index); err != nil {
		return err
	}
	if err := r.moved(); err != nil {
		return err
	}
	s.log.Info("node refilled", "node", k.node.Name, "keys", r.done.Keys(), "copied", r.done.Ended[refill.Copied],
		"bytes", r.done.Bytes, "failed", r.done.Ended[refill.Failed], "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// opening is the part of --resync-rate that a refill begins with: all of it if nobody asks
// the sources anything.
func (s *poolServer) opening(sources []int) float64 {
	if slices.ContainsFunc(sources, func(i int) bool { return s.p99(i) > 0 }) {
		return refill.Floor
	}
	return 1
}

// inOrder is sources with the one before the others that an operator has named.
func (k *keeper) inOrder(sources []int) []int {
	first := k.byHand.Load()
	if first == nil {
		return sources
	}
	others := slices.DeleteFunc(slices.Clone(sources), func(i int) bool { return i == *first })
	if len(others) == len(sources) {
		return sources
	}
	return append([]int{*first}, others...)
}

var errMoved = errors.New("another node came to lead some of its keys")

// sources is the nodes that a cold node is refilled from: its peers that are read. An
// error says that another may hold what none of these has, and is not there.
func (s *poolServer) sources(node int) (sources []int, err error) {
	for _, pl := range s.pool.Copies {
		whole := true // then it leads all of the node's keys that copies before it do not
		for _, peer := range pl.Nodes {
			state := s.pool.Health.Load(peer).State()
			whole = whole && peer != node && state <= health.Slow
			switch {
			case peer == node || !slices.Contains(s.pool.Peers(node), peer):
			case state <= health.Slow:
				sources = append(sources, peer)
			case state != health.Warming && !s.keepers[peer].cold.Load() && !s.pool.Covered(node, health.Slow):
				err = errors.Join(err, fmt.Errorf("%s, which may hold some of its keys, is %s", s.pool.Nodes[peer].Name, state))
			}
		}
		if whole {
			break
		}
	}
	slices.Sort(sources)
	return slices.Compact(sources), err
}

// leads is the node that leads key while node is Warming; -1 if key is not node's, or if
// nobody is there who could have more of it.
func (s *poolServer) leads(node int, key []byte) int {
	lead, mine := -1, false
	for c := range s.pool.Copies {
		replica, state := s.pool.State(c, key)
		switch {
		case replica == node:
			mine = true
		case lead < 0 && state <= health.Slow:
			lead = replica
		}
	}
	if !mine {
		return -1
	}
	return lead
}

// refillRun is one refill. It belongs to the goroutine of warm, to that of refill.Run while
// warm's waits for it, and to a loop while that one waits.
type refillRun struct {
	keeper *keeper
	lodging
	source int      // of the keys that are being copied
	peers  []stance // of the node's peers, when it began
	cancel context.CancelCauseFunc
	done   refill.Counts // of the copies that have ended
	state  Refill
	at     time.Time     // when state was reckoned last
	was    refill.Counts // and of what
	logged time.Time
}

// from copies what source leads of the node's keys.
func (r *refillRun) from(ctx context.Context, source int) error {
	s, k := r.keeper.srv, r.keeper
	n := s.pool.Nodes[source]
	keys := dump.NewHottest(s.passRoom(ctx, source))
	for first, more := true, true; more; first = false {
		r.enter("listing " + n.Name)
		mine := uint64(0)
		list, err := dump.Crawl(ctx, s.listing(n), func(e dump.Entry) {
			if !ours(e.Key) && s.leads(k.node.Index, e.Key) == source {
				mine++
				keys.Add(e)
			}
		})
		if err != nil {
			return err
		}
		if first {
			r.state.Total += mine
		}
		keys.Sort()
		r.enter("copying from " + n.Name)
		if err := r.copy(ctx, source, keys); err != nil {
			return err
		}
		more = keys.Next(list.Began)
	}
	return nil
}

// ours reports whether a key is one of those that magents keep on nodes for themselves.
func ours(key []byte) bool {
	return len(key) >= len(fleet.Prefix) && string(key[:len(fleet.Prefix)]) == fleet.Prefix
}

// listing is where, and with which patience, a node is asked for its keys.
func (s *poolServer) listing(n *upstream.Node) dump.Target {
	return dump.Target{Target: s.entry.target(n), Silence: s.times.silence}
}

// passRoom is for as many keys as the source says that it has, and some that come meanwhile.
func (s *poolServer) passRoom(ctx context.Context, source int) dump.Limits {
	l := dump.Limits{Keys: passKeys, Bytes: passBytes}
	if items, err := s.items(ctx, source); err == nil {
		l.Keys = min(l.Keys, items+items/4+1024)
		l.Bytes = min(l.Bytes, 128*l.Keys)
	}
	return l
}

// items is how many items a node says that it has.
func (s *poolServer) items(ctx context.Context, node int) (items int, err error) {
	p := s.newProber(node)
	defer p.Forget()
	err = p.Ask(ctx, "stats", "stats\r\n", func(line []byte) (last, ok bool) {
		if string(line) == "END" {
			return true, true
		}
		const name = "STAT curr_items "
		if len(line) > len(name) && string(line[:len(name)]) == name {
			items, _ = strconv.Atoi(string(line[len(name):]))
		}
		return false, true
	})
	return items, err
}

// copy copies the keys of one pass.
func (r *refillRun) copy(ctx context.Context, source int, keys *dump.Hottest) error {
	s, k := r.keeper.srv, r.keeper
	rate := s.conf.ResyncRate
	explicit, err := s.explicit(ctx)
	if err != nil {
		return err
	}
	r.source = source
	var conn net.Conn // to the target
	target := func(ctx context.Context) (_ net.Conn, err error) {
		if conn, err = s.entry.dial(ctx, k.node); err != nil {
			return nil, err
		}
		return dial.Socket(conn)
	}
	from := func(ctx context.Context) (net.Conn, error) {
		conn, err := s.entry.dial(ctx, s.pool.Nodes[source])
		if err != nil {
			return nil, err
		}
		return dial.Socket(conn)
	}
	if s.entry.asking != nil { // there are goroutines between the sockets and the nodes
		defer takeSpareP()()
	}
	counts, err := refill.Run(ctx, refill.Config{
		Limits: refill.Limits{Explicit: explicit},
		Source: from, Target: target, Keys: each(keys), Silence: s.times.silence,
		Rate: refill.Rate{Keys: float64(rate.Keys), Bytes: float64(rate.Bytes)}, Factor: r.state.Full,
		Lead:     r.moved,
		Thread:   stepBack,
		Host:     r,
		Suffers:  func() bool { return r.suffers(source) },
		Progress: r.progress,
	})
	r.done.Add(&counts)
	r.mend(err, conn)
	return err
}

// explicit reports whether the nodes take versions that they are given, as far as all loops
// know.
func (s *poolServer) explicit(ctx context.Context) (all bool, err error) {
	var lacking atomic.Bool
	err = s.onLanes(ctx, func(l *lane) {
		if !l.group.Explicit() {
			lacking.Store(true)
		}
	})
	return !lacking.Load(), err
}

// each gives keys one by one.
func each(keys *dump.Hottest) func() (refill.Key, bool) {
	i := 0
	return func() (refill.Key, bool) {
		if i == keys.Len() {
			return refill.Key{}, false
		}
		hot := keys.At(i)
		i++
		return refill.Key{Name: hot.Key, Size: hot.Size}, true
	}
}

// stance is what a peer of a cold node was when its refill began.
type stance struct {
	node int
	word health.Word
}

func (s *poolServer) stances(node int) (all []stance) {
	for _, peer := range s.pool.Peers(node) {
		all = append(all, stance{peer, s.pool.Health.Load(peer)})
	}
	return all
}

// moved says so if another node leads some of the node's keys than when the refill began,
// or has done so meanwhile. What a source says from then on may be of the past: it has not
// got what the other leads.
func (r *refillRun) moved() error {
	for _, was := range r.peers {
		now := r.keeper.srv.pool.Health.Load(was.node)
		led, leads := was.word.State() <= health.Slow, now.State() <= health.Slow
		if led != leads || led && now.Term() != was.word.Term() {
			return errMoved
		}
	}
	return nil
}

// suffers reports whether clients wait longer for the source than they used to. It also
// ends a refill whose sources are no longer those that lead the node's keys.
func (r *refillRun) suffers(source int) bool {
	s := r.keeper.srv
	if err := r.moved(); err != nil {
		r.cancel(err)
	}
	k, now := s.keepers[source], r.p99(source)
	usual := time.Duration(k.usual.Load())
	suffers := usual > 0 && now > usual*9/8 && now > usual+16*time.Microsecond
	// Who waits for less beside a refill was not used to more without it; and whoever suffers
	// from the least that there is does not suffer from the refill.
	if 0 < now && now < usual || suffers && r.state.Full <= refill.Floor {
		k.used(now)
	}
	return suffers
}

// observe keeps what clients are used to: the mean of some seconds of the node's p99,
// while nothing is refilled.
func (k *keeper) observe() {
	s := k.srv
	if slices.ContainsFunc(s.keepers, func(o *keeper) bool { return o.progress.Load() != nil }) {
		return
	}
	if now := s.p99(k.node.Index); now > 0 { // else nobody asks it
		k.used(now)
	}
}

// used is for clients that wait for the node for so long now.
func (k *keeper) used(now time.Duration) {
	usual := k.usual.Load()
	if usual == 0 {
		usual = int64(now)
	}
	k.usual.Store(usual + (int64(now)-usual)/8)
}

// Busy reports whether clients have a loop ask the source for more than that loop's clock would
// have the refill take turns. Where it is no guest yet, it is to be one of the busiest.
func (r *refillRun) Busy() bool {
	const few = int(time.Second / tick)
	if r.inside {
		return r.lane.group.AskedOfLate(r.source) > few
	}
	s := r.keeper.srv
	ctx, cancel := context.WithTimeout(s.ctx, lastWords)
	defer cancel()
	asked := make(chan load, len(s.loops))
	err := s.onLanes(ctx, func(l *lane) { asked <- load{l, l.group.AskedOfLate(r.source)} })
	most := load{n: few}
	for err == nil && len(asked) > 0 {
		if a := <-asked; a.n > most.n {
			most = a
		}
	}
	if most.lane != nil {
		r.lane = most.lane
	}
	return most.lane != nil
}

// load is how much a loop has asked a node of late.
type load struct {
	lane *lane
	n    int
}

// p99 is the Server's, or that of the loop where r is a guest, as no other may be waited for there.
func (r *refillRun) p99(source int) time.Duration {
	if r.inside {
		return r.lane.group.P99OfLate(source)
	}
	return r.keeper.srv.p99(source)
}

// p99 is the 99th percentile of what requests to node take of late, where that is worst; 0 if
// there are none.
func (s *poolServer) p99(node int) time.Duration {
	ctx, cancel := context.WithTimeout(s.ctx, lastWords)
	defer cancel()
	took := make(chan time.Duration, len(s.loops))
	err := s.onLanes(ctx, func(l *lane) { took <- l.group.P99OfLate(node) })
	worst := time.Duration(0)
	for err == nil && len(took) > 0 {
		worst = max(worst, <-took)
	}
	return worst
}

// enter begins a phase.
func (r *refillRun) enter(phase string) {
	r.state.Phase = phase
	r.show(time.Now())
}

// progress takes how far a copy is.
func (r *refillRun) progress(c refill.Counts, factor float64) {
	c.Add(&r.done)
	now := time.Now()
	if passed := now.Sub(r.at); passed >= time.Second || r.at.IsZero() {
		if !r.at.IsZero() {
			r.state.Keys = float64(c.Keys()-r.was.Keys()) / passed.Seconds()
			r.state.Bytes = float64(c.Bytes-r.was.Bytes) / passed.Seconds()
		}
		r.at, r.was = now, c
	}
	r.state.Done, r.state.Full = c.Keys(), factor
	r.show(now)
}

// show tells people.
func (r *refillRun) show(now time.Time) {
	state := r.state
	r.keeper.progress.Store(&state)
	if now.Sub(r.logged) < told {
		return
	}
	r.logged = now
	eta, _ := state.ETA()
	go r.keeper.srv.log.Info( // which may wait for a disk
		"refill", "node", r.keeper.node.Name, "phase", state.Phase, "done", state.Done, "total", state.Total,
		"keys/s", int(state.Keys), "bytes/s", int(state.Bytes), "rate", state.Full, "eta", eta.Round(time.Second))
}

// mend notes what a copy that failed may have left at the node, or on its way there over
// conn, for trust to wait for and to repair.
func (r *refillRun) mend(failed error, conn net.Conn) {
	var e *refill.Error
	if !errors.As(failed, &e) || len(e.Doubt) == 0 {
		return
	}
	k := r.keeper
	if addr, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		k.node.Left(addr.String())
	}
	k.srv.log.Warn("keys of a refill that broke off are to be repaired", "node", k.node.Name, "keys", len(e.Doubt))
	l := k.srv.lanes()[0]
	_ = l.do(func() {
		for _, key := range e.Doubt {
			name, base64 := refill.Written(key.Name)
			l.debts[k.node.Index].Note(name, base64)
		}
	})
}
