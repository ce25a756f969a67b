package server

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/server/admin"
	"magent/server/sketch"
	"magent/upstream/inspect"
)

// Which keys are asked for most, and who asks most, is counted for as long as somebody wants
// to know it: each loop has a census then, and each of its sessions an activity there. At all
// other times a command costs a look at a nil pointer more.

const (
	// topCounters is how many keys each loop counts: what makes up more than 1/1024 of its
	// requests is among them.
	topCounters = 1024
	// topClients bounds the addresses that each loop tells apart. Clients that come when
	// there are so many are counted as others.
	topClients = 1 << 14
	// otherClients and unixClients stand for addresses.
	otherClients = "others"
	unixClients  = "unix socket"
)

// census is what one loop counts. It is the loop's from begin to end, and before and after
// that of who wants it.
type census struct {
	keys    *sketch.Sketch
	clients map[netip.Addr]*activity // the zero Addr is that of unix sockets
	others  activity
}

// activity is what the clients of one address do.
type activity struct {
	conns    int // that were there at some time
	requests uint64
	in, out  uint64 // bytes
}

func newCensus() *census {
	return &census{keys: sketch.New(topCounters), clients: make(map[netip.Addr]*activity)}
}

// begin has l count into c from now on.
func (l *loop) begin(c *census) {
	l.census = c
	for s := range l.sessions {
		l.meet(s)
	}
}

// meet gives a session the activity of its address. Our own client has none.
func (l *loop) meet(s *session) {
	if l.census == nil || s.own() {
		return
	}
	c, addr := l.census, s.address()
	t := c.clients[addr]
	switch {
	case t != nil:
	case len(c.clients) == topClients:
		t = &c.others
	default:
		t = new(activity)
		c.clients[addr] = t
	}
	t.conns++
	s.tally = t
}

// address is the client's; the zero one if it has none.
func (s *session) address() (a netip.Addr) {
	if c, ok := s.socket(); ok {
		a, _ = addrOf(c.RemoteAddr())
	}
	return a
}

// end has l count no more.
func (l *loop) end() {
	l.census = nil
	for s := range l.sessions {
		s.tally = nil
	}
}

// tallied counts a command, and the keys that it asks for.
func (s *session) tallied(line []byte, req *codec.Request) {
	l := s.loop
	s.tally.requests++
	writes := req.Op.Class() != codec.ClassRead
	switch {
	case req.Key.Len == 0, req.Op == codec.OpNone:
	case req.Op.MultiKey():
		at := req.Key.Off
		for key, more := text.NextKey(line, req.Rest, &at); more; key, more = text.NextKey(line, req.Rest, &at) {
			l.census.keys.Add(key.In(line), writes)
		}
	default:
		l.census.keys.Add(l.route(line, req), writes)
	}
}

// Top counts for a while, and says which keys were asked for most and who asked most. One
// count is made at a time: who comes second waits.
func (s *Server) Top(ctx context.Context, q admin.TopQuestion) (admin.Top, error) {
	ctx, cancel := s.untilStopped(ctx)
	defer cancel()
	select {
	case s.counting <- struct{}{}:
		defer func() { <-s.counting }()
	case <-ctx.Done():
		return admin.Top{}, ctx.Err()
	}
	all := make([]*census, len(s.loops))
	for i := range all {
		all[i] = newCensus()
	}
	began := time.Now()
	err := s.onLoops(ctx, func(l *loop) { l.begin(all[l.index]) })
	if err == nil {
		pause(ctx, q.For())
		err = ctx.Err()
	}
	// However it ends, nothing is counted after it. A loop that hangs has it to do yet.
	patience, stop := context.WithTimeout(context.Background(), lastWords)
	defer stop()
	if ended := s.onLoops(patience, (*loop).end); err == nil {
		err = ended
	}
	if err != nil {
		return admin.Top{}, err
	}
	return s.topOf(all, q, time.Since(began)), nil
}

// topOf is what the loops have counted in this time.
func (s *Server) topOf(all []*census, q admin.TopQuestion, took time.Duration) admin.Top {
	top := admin.Top{Seconds: took.Seconds(), Hot: []admin.HotKey{}, Clients: []admin.BusyClient{}}
	var keys []*sketch.Sketch
	clients := map[string]*admin.BusyClient{}
	add := func(address string, t *activity) {
		c := clients[address]
		if c == nil {
			c = &admin.BusyClient{Address: address}
			clients[address] = c
		}
		c.Connections += t.conns
		c.Requests += t.requests
		c.In += t.in
		c.Out += t.out
		top.Requests += t.requests
	}
	for _, c := range all {
		keys = append(keys, c.keys)
		top.Keys += c.keys.Total()
		for addr, t := range c.clients {
			add(clientName(addr), t)
		}
		if c.others.conns > 0 {
			add(otherClients, &c.others)
		}
	}
	for _, e := range sketch.Merge(q.Keys, keys...) {
		top.Hot = append(top.Hot, s.hot(e))
	}
	for _, c := range clients {
		top.Clients = append(top.Clients, *c)
	}
	slices.SortFunc(top.Clients, func(a, b admin.BusyClient) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(b.In+b.Out, a.In+a.Out), cmp.Compare(a.Address, b.Address))
	})
	top.Addresses = len(top.Clients)
	top.Clients = top.Clients[:min(q.Clients, len(top.Clients))]
	return top
}

func clientName(addr netip.Addr) string {
	if !addr.IsValid() {
		return unixClients
	}
	return addr.String()
}

// hot is a key with where it is.
func (s *Server) hot(e sketch.Entry) admin.HotKey {
	hot := admin.HotKey{Key: admin.Text(e.Key), KeyBytes: e.Key, Least: e.Count - e.Over, Most: e.Count, Writes: e.Marked}
	if p, err := s.poolOf(admin.Question{Key: e.Key}); err == nil {
		hot.Pool = p.conf.Name
		if k := p.place(inspect.Key{Name: e.Key}); k.lead >= 0 {
			hot.Lead = k.pool.Nodes[k.nodes[k.lead]].Name
		}
	}
	return hot
}
