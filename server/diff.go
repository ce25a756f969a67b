package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"magent/server/admin"
	"magent/upstream"
	"magent/upstream/dump"
	"magent/upstream/health"
	"magent/upstream/inspect"
	"magent/upstream/repair"
)

// The copies of keys are compared for people, on the goroutine of who asks, and over
// connections of its own. In the order of the functions below:
//
//	sample, or all → list …dump… → first → compare → look …inspect…
//	                                  └─▶ settle: compare again, twice → mend …the loops…
//
// Only nodes that are up, or slow, are asked: what a node of another state lacks, or has
// too much, is known, and seen to already. Of a key's replicas the first of these leads.

const (
	diffBatch    = 128         // keys that are looked at together
	diffSuspects = 4096        // keys that are looked at again together
	diffExamples = 5           // told of each kind
	diffMending  = 64          // keys under repair at once, for each loop
	diffTold     = time.Second // between two words of progress
)

// Why keys are not compared.
const (
	leftAlone   = "one replica of it is up"
	leftFailed  = "a node failed meanwhile"
	leftRefused = "a node refused to say"
	leftBusy    = "it was being written"
	leftStray   = "it is on a node that is none of its replicas"
	leftUnnamed = "it is too long to be asked for, with such bytes in it"
)

// finding is a copy that differs from the lead's.
type finding struct {
	key      inspect.Key
	node     int
	kind     inspect.Difference
	versions [2]uint64 // the lead's and the node's
	steady   bool      // these were the same at the look before
	left     string    // why it was not judged again; empty: it was
}

// judgement is what came of comparing the copies of one key.
type judgement struct {
	same  []int  // nodes whose copies are the lead's
	known bool   // of one copy at least it is known whether it is
	left  string // why of another it is not
}

// comparison is one of them. It belongs to the goroutine of who asks.
type comparison struct {
	srv      *poolServer
	pool     *upstream.Pool
	q        admin.DiffQuestion
	nodes    []*inspect.Node
	lost     []error // by node: why it is asked no more
	suspects []finding
	kinds    [inspect.NumDifferences]admin.DiffKind
	left     map[string]int
	due      time.Time // when the next look may be
	tell     func(admin.DiffProgress)
	at       admin.DiffProgress
	told     time.Time
}

// Diff compares the copies of keys, and calls progress now and then.
func (s *Server) Diff(ctx context.Context, q admin.DiffQuestion, progress func(admin.DiffProgress)) (admin.Diff, error) {
	p, err := s.diffed(q.Pool)
	if err != nil {
		return admin.Diff{}, err
	}
	if !p.diffing.TryLock() {
		return admin.Diff{}, errors.New("another comparison is under way")
	}
	defer p.diffing.Unlock()
	ctx, cancel := s.untilStopped(ctx)
	defer cancel()
	d := p.newComparison(q, progress)
	defer d.close()
	err = d.run(ctx)
	return d.result(), err
}

// diffed is the pool of this name; with no name the only one.
func (s *Server) diffed(name string) (*poolServer, error) {
	if name == "" && len(s.pools) == 1 {
		return s.pools[0], nil
	}
	if name == "" {
		return nil, fmt.Errorf("say which pool: there are %s", strings.Join(namesOf(s.pools), ", "))
	}
	return s.called(name)
}

func (s *poolServer) newComparison(q admin.DiffQuestion, progress func(admin.DiffProgress)) *comparison {
	d := &comparison{srv: s, pool: s.pool, q: q, tell: progress, left: map[string]int{}, lost: make([]error, len(s.pool.Nodes))}
	for i := range s.pool.Nodes {
		d.nodes = append(d.nodes, s.inspector(i))
	}
	return d
}

func (d *comparison) close() {
	for _, n := range d.nodes {
		n.Close()
	}
}

func (d *comparison) run(ctx context.Context) error {
	err := d.comparable()
	switch {
	case err != nil:
	case d.q.Sample > 0:
		err = d.sample(ctx)
	default:
		err = d.all(ctx)
	}
	if err == nil {
		err = d.settle(ctx)
	}
	return err
}

// asks reports whether node is asked.
func (d *comparison) asks(node int) bool {
	return d.lost[node] == nil && d.pool.Health.Load(node).State() <= health.Slow
}

// comparable says why no key can be compared; nil if some can.
func (d *comparison) comparable() error {
	if d.pool.Alone() {
		return errors.New("there is one copy of each key, and nothing to compare it with")
	}
	copies := 0
	for _, pl := range d.pool.Copies {
		if slices.ContainsFunc(pl.Nodes, d.asks) {
			copies++
		}
	}
	if copies < 2 {
		return fmt.Errorf("there are no two copies to compare: %s", strings.Join(d.notAsked(), ", "))
	}
	return nil
}

// notAsked is the nodes that are not asked, and why.
func (d *comparison) notAsked() []string {
	all := []string{}
	for i, n := range d.pool.Nodes {
		if err := d.lost[i]; err != nil {
			all = append(all, fmt.Sprintf("%s failed: %v", n.Name, err))
		} else if !d.asks(i) {
			all = append(all, fmt.Sprintf("%s is %s", n.Name, d.pool.Health.Load(i).State()))
		}
	}
	return all
}

// replicas is the nodes that are asked for key, the lead first.
func (d *comparison) replicas(key []byte) (nodes []int) {
	for c := range d.pool.Copies {
		if n := d.pool.Replica(c, key); d.asks(n) && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// sample compares some keys, each of all that any node lists with the same odds.
func (d *comparison) sample(ctx context.Context) error {
	keys := dump.NewSample(d.q.Sample)
	for node := range d.pool.Nodes {
		if _, err := d.list(ctx, node, true, keys.Add); err != nil {
			return err
		}
	}
	d.at.Total = uint64(keys.Len())
	return d.inBatches(ctx, keys.Len(), func(i int) []byte { return []byte(keys.At(i)) }, d.first)
}

// all compares all keys: each where it is listed by the first of its replicas that has it.
func (d *comparison) all(ctx context.Context) error {
	for node := range d.pool.Nodes {
		keys := dump.NewHottest(d.srv.passRoom(ctx, node))
		for first, more := true, true; more; first = false {
			list, err := d.list(ctx, node, first, keys.Add)
			if err != nil {
				return err
			}
			keys.Sort()
			err = d.inBatches(ctx, keys.Len(), func(i int) []byte { return keys.At(i).Key }, func(ctx context.Context, batch []inspect.Key) error {
				batch, err := d.unseen(ctx, node, batch)
				if err != nil {
					return err
				}
				return d.first(ctx, batch)
			})
			if err != nil {
				return err
			}
			more = d.asks(node) && keys.Next(list.Began)
		}
	}
	return nil
}

// list has node list those of its keys that clients may ask it for. They are counted if
// it is the first time. That it fails is no error.
func (d *comparison) list(ctx context.Context, node int, first bool, each func(dump.Entry)) (l dump.Listing, err error) {
	if !d.asks(node) {
		return l, nil
	}
	d.show("listing " + d.pool.Nodes[node].Name)
	l, err = dump.Crawl(ctx, d.srv.listing(d.srv.pool.Nodes[node]), func(e dump.Entry) {
		switch {
		case ours(e.Key):
		case d.holds(node, e.Key):
			if first {
				d.at.Listed++
			}
			each(e)
		case first:
			d.left[leftStray]++
		}
	})
	return l, d.loses(ctx, node, err)
}

// holds reports whether node is a replica of key.
func (d *comparison) holds(node int, key []byte) bool {
	for c := range d.pool.Copies {
		if d.pool.Replica(c, key) == node {
			return true
		}
	}
	return false
}

// loses asks node no more, if err is its failure. It returns that of ctx.
func (d *comparison) loses(ctx context.Context, node int, err error) error {
	if err != nil {
		d.lost[node] = err
	}
	return ctx.Err()
}

// inBatches has do called with n keys, some at a time.
func (d *comparison) inBatches(ctx context.Context, n int, at func(int) []byte, do func(context.Context, []inspect.Key) error) error {
	size := diffBatch
	if d.q.Keys > 0 {
		size = min(size, max(1, d.q.Keys/10)) // several in a second, however slow
	}
	for i := 0; i < n; {
		batch := make([]inspect.Key, 0, size)
		for ; i < n && len(batch) < size; i++ {
			if key, err := inspect.NewKey(at(i)); err == nil {
				batch = append(batch, key)
			} else {
				d.left[leftUnnamed]++
			}
		}
		if err := do(ctx, batch); err != nil {
			return err
		}
		d.show("comparing")
	}
	return nil
}

// unseen is those of keys, which node has listed, that none of the replicas before it has:
// the others are compared where that lists them.
func (d *comparison) unseen(ctx context.Context, node int, keys []inspect.Key) (rest []inspect.Key, err error) {
	nodes := make([][]int, len(keys))
	for i, k := range keys {
		all := d.replicas(k.Name)
		nodes[i] = all[:max(0, slices.Index(all, node))]
	}
	items, err := d.look(ctx, keys, nodes, inspect.Options{})
	for i, k := range keys {
		if !slices.ContainsFunc(items[i], func(it *inspect.Item) bool { return it != nil && it.Found }) {
			rest = append(rest, k)
		}
	}
	return rest, err
}

// first compares keys for the first time. Those that differ are suspects.
func (d *comparison) first(ctx context.Context, keys []inspect.Key) error {
	found, judged, err := d.compare(ctx, keys)
	if err != nil {
		return err
	}
	for i := range judged {
		if v := &judged[i]; v.known {
			d.at.Compared++
		} else {
			d.left[v.left]++
		}
	}
	for _, f := range found {
		key, err := inspect.NewKey(slices.Clone(f.key.Name)) // whose memory is another's
		if err != nil {
			return err
		}
		f.key = key
		d.suspects = append(d.suspects, f)
	}
	if len(d.suspects) < diffSuspects {
		return nil
	}
	return d.settle(ctx)
}

// compare looks at keys, and says which copies differ, and what came of each key.
func (d *comparison) compare(ctx context.Context, keys []inspect.Key) (found []finding, all []judgement, err error) {
	nodes := make([][]int, len(keys))
	for i, k := range keys {
		nodes[i] = d.replicas(k.Name)
	}
	items, err := d.look(ctx, keys, nodes, inspect.Options{Value: true})
	all = make([]judgement, len(keys))
	for i, k := range keys {
		v := &all[i]
		if len(nodes[i]) < 2 {
			v.left = leftAlone
			continue
		}
		lead := items[i][0]
		for j, it := range items[i][1:] {
			if lead == nil || it == nil {
				v.left = leftFailed
				continue
			}
			node := nodes[i][j+1]
			switch kind := inspect.Compare(lead, it); kind {
			case inspect.Unknown:
				v.left = leftRefused
				continue
			case inspect.Same:
				v.same = append(v.same, node)
			default:
				found = append(found, finding{key: k, node: node, kind: kind, versions: [2]uint64{lead.CAS, it.CAS}})
			}
			v.known = true
		}
	}
	return found, all, err
}

// look asks nodes[i] for keys[i], all at once, when the rate has it. What a node that
// fails has is nil.
func (d *comparison) look(ctx context.Context, keys []inspect.Key, nodes [][]int, o inspect.Options) ([][]*inspect.Item, error) {
	pause(ctx, time.Until(d.due))
	items := make([][]*inspect.Item, len(keys))
	asked := make([][]int, len(d.nodes)) // by node: which of keys
	for i := range keys {
		items[i] = make([]*inspect.Item, len(nodes[i]))
		for _, n := range nodes[i] {
			asked[n] = append(asked[n], i)
		}
	}
	failed := make([]error, len(d.nodes))
	var under sync.WaitGroup
	for n, mine := range asked {
		if len(mine) == 0 {
			continue
		}
		under.Go(func() {
			batch := make([]inspect.Key, len(mine))
			for at, i := range mine {
				batch[at] = keys[i]
			}
			var told []inspect.Item
			told, failed[n] = d.nodes[n].Look(ctx, batch, o)
			for at := range told {
				items[mine[at]][slices.Index(nodes[mine[at]], n)] = &told[at]
			}
		})
	}
	under.Wait()
	for n, err := range failed {
		if d.loses(ctx, n, err) != nil {
			break
		}
	}
	d.paced(len(keys), items)
	return items, ctx.Err()
}

// paced has the next look wait for as long as so many keys, and these items, take by the
// rate.
func (d *comparison) paced(keys int, items [][]*inspect.Item) {
	size := 0
	for _, row := range items {
		for _, it := range row {
			if it != nil && it.Sum != [len(it.Sum)]byte{} {
				size += it.Size
			}
		}
	}
	takes := 0.0
	if d.q.Keys > 0 {
		takes = float64(keys) / float64(d.q.Keys)
	}
	if d.q.Bytes > 0 {
		takes = max(takes, float64(size)/float64(d.q.Bytes))
	}
	now := time.Now()
	if d.due.Before(now) {
		d.due = now
	}
	d.due = d.due.Add(time.Duration(takes * float64(time.Second)))
}

// settle looks at the suspects again, twice. Those that differ each time, and are not being
// written, do differ, and are repaired if that is wanted.
func (d *comparison) settle(ctx context.Context) error {
	if len(d.suspects) == 0 {
		return nil
	}
	d.show("looking again")
	all, left, err := d.again(ctx, d.suspects)
	d.suspects = d.suspects[:0]
	if err != nil {
		return err
	}
	out := map[string]string{} // keys of which nothing is said, and why
	for _, f := range left {
		out[string(f.key.Name)] = f.left
	}
	var found []finding
	for _, f := range all {
		if f.steady {
			found = append(found, f)
			d.count(f)
		} else {
			out[string(f.key.Name)] = leftBusy
		}
	}
	for _, f := range found { // of the other copies of these it is known
		delete(out, string(f.key.Name))
	}
	for _, why := range out {
		d.left[why]++
	}
	d.at.Compared -= uint64(len(out))
	if !d.q.Repair || len(found) == 0 {
		return nil
	}
	return d.repair(ctx, found)
}

// repair has what was found repaired, and counts what agrees then: what cannot be looked at
// does not.
func (d *comparison) repair(ctx context.Context, found []finding) error {
	d.show("repairing")
	if err := d.mend(ctx, found); err != nil {
		return err
	}
	rest, left, err := d.again(ctx, found)
	if err != nil {
		return err
	}
	for _, f := range found {
		d.kinds[f.kind].Mended++
	}
	for _, f := range append(rest, left...) {
		was := slices.IndexFunc(found, func(o finding) bool { return o.is(&f) })
		d.kinds[found[was].kind].Mended--
	}
	return nil
}

// is reports whether both are of one copy of one key.
func (f *finding) is(o *finding) bool {
	return f.node == o.node && string(f.key.Name) == string(o.key.Name)
}

// again compares the keys of what was found twice more, and returns what differs each time,
// and what could not be judged each time. Of the rest the copies agree.
func (d *comparison) again(ctx context.Context, all []finding) (kept, left []finding, err error) {
	for range mostLooks - 1 {
		if len(all) == 0 {
			break
		}
		pause(ctx, time.Duration(d.q.Pause)*time.Millisecond)
		kept, open, err := d.once(ctx, all)
		if err != nil {
			return nil, nil, err
		}
		all, left = kept, append(left, open...)
	}
	return all, left, nil
}

// once is all that differs yet, and what cannot be judged.
func (d *comparison) once(ctx context.Context, all []finding) (kept, left []finding, err error) {
	before := map[string][]finding{}
	var keys []inspect.Key
	for _, f := range all {
		name := string(f.key.Name)
		if before[name] == nil {
			keys = append(keys, f.key)
		}
		before[name] = append(before[name], f)
	}
	for batch := range slices.Chunk(keys, diffBatch) {
		found, judged, err := d.compare(ctx, batch)
		if err != nil {
			return nil, nil, err
		}
		for i, k := range batch {
			for _, was := range before[string(k.Name)] {
				now := slices.IndexFunc(found, func(o finding) bool { return o.is(&was) })
				switch v := &judged[i]; {
				case now >= 0:
					found[now].steady = found[now].versions == was.versions
					kept = append(kept, found[now])
				case !slices.Contains(v.same, was.node):
					was.left = cmp.Or(v.left, leftFailed)
					left = append(left, was)
				}
			}
		}
	}
	return kept, left, nil
}

// count takes a copy that differs into the result.
func (d *comparison) count(f finding) {
	d.at.Different++
	k := &d.kinds[f.kind]
	k.Kind = f.kind.String()
	k.Copies++
	if len(k.Examples) < diffExamples {
		k.Examples = append(k.Examples, admin.DiffExample{Key: admin.Text(f.key.Name), KeyBytes: f.key.Name, Node: d.pool.Nodes[f.node].Name})
	}
}

// mend has the loops repair what was found, and waits until they have.
func (d *comparison) mend(ctx context.Context, found []finding) error {
	s := d.srv
	done := make(mended, len(found))
	running := 0
	await := func(most int) error {
		for ; running > most; running-- {
			select {
			case <-done:
			case <-s.died:
				return s.err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	for i, f := range found {
		if err := await(diffMending*len(s.loops) - 1); err != nil {
			return err
		}
		l := s.loops[i%len(s.loops)].lanes[s.index]
		if err := l.do(func() { l.mendKey(done, f.node, f.key.Written, f.key.Base64, repair.CauseDifference, false) }); err != nil {
			return err
		}
		running++
	}
	return await(0)
}

// mended hears of the end of repairs, and has room for all of them.
type mended chan struct{}

// leaderless need not hear of what it is told when the repair ends.
func (m mended) leaderless([]byte, bool) {}

func (m mended) ended(repair.Outcome) { m <- struct{}{} }

// show tells of a phase, or of how far it is.
func (d *comparison) show(phase string) {
	if now := time.Now(); phase != d.at.Phase || now.Sub(d.told) >= diffTold {
		d.at.Phase, d.told = phase, now
		d.tell(d.at)
	}
}

// result is what there is to say.
func (d *comparison) result() admin.Diff {
	maps.DeleteFunc(d.left, func(_ string, n int) bool { return n == 0 })
	r := admin.Diff{Pool: d.srv.conf.Name, Compared: d.at.Compared, Different: d.at.Different, Left: d.left, Nodes: d.notAsked(), Kinds: []admin.DiffKind{}}
	for _, k := range d.kinds {
		if k.Copies > 0 {
			r.Kinds = append(r.Kinds, k)
			r.Mended += k.Mended
		}
	}
	return r
}
