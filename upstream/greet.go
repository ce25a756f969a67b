package upstream

import (
	"bytes"
	"slices"

	"magent/codec"
	"magent/upstream/token"
)

// What opens every connection: in a pool of several copies the node is also asked
// for what tells its life from the one before.
const (
	greetAlone  = "version\r\n"
	greetCopies = greetAlone + "stats\r\n"
)

// greet asks the node who it is, before all that is queued.
func (c *Conn) greet() error {
	line, ops := greetAlone, []codec.Op{codec.OpVersion}
	if !c.group.pool.Alone() {
		line, ops = greetCopies, []codec.Op{codec.OpVersion, codec.OpStats}
	}
	for _, op := range slices.Backward(ops) {
		c.ring.pushFront(Pending{Owner: greeter{}, Op: op})
	}
	c.group.pending += len(ops)
	c.sent = c.ring.tail + uint32(len(ops))
	_, err := c.wire.Write([]byte(line))
	return err
}

// greeted takes the answer to the version request that opened the connection.
func (c *Conn) greeted(b []byte) {
	v, ok := bytes.CutPrefix(bytes.TrimRight(b, "\r\n"), []byte("VERSION "))
	if !ok {
		c.fail(CauseRefused)
		return
	}
	c.node.learn(string(v))
	c.group.learn(c.node.Index, string(v))
	c.ring.pop()
	c.group.pending--
}

// learn keeps what the version that a node named says of the E flag.
func (g *Group) learn(node int, version string) {
	v, ok := token.ParseVersion(version)
	g.takesE[node] = ok && v.SupportsE()
	g.explicit = !g.pool.Alone() && !slices.Contains(g.takesE, false)
}

// Explicit reports whether items may be given their versions (the E flag): the pool
// has several copies, and what each of its nodes last named to this group is a
// version that takes it.
func (g *Group) Explicit() bool { return g.explicit }

// Life tells the process at the other end of the present connection from those that
// had, or will have, the node's address before and after it (probe.Identity). ok is
// false before the connection is made and its greeting answered, of a node that does
// not say enough in its stats, and in a pool of one copy.
func (c *Conn) Life() (life uint64, ok bool) { return c.life, c.life != 0 }

// greeter owns the requests that open every connection.
type greeter struct{}

// Reply hears the stats; the version comes to Conn.greeted.
func (greeter) Reply(c *Conn, _ *Pending, r *codec.Reply, b []byte) {
	switch r.Kind {
	case codec.KindStat:
		c.met.Stat(b)
	case codec.KindEnd:
		// Another process has not what the node had: not even a miss of it is an answer.
		if c.life, _ = c.met.Life(); c.life != 0 && !c.node.meets(c.life) {
			c.fail(CauseRestarted)
		}
	}
}

func (greeter) Body(*Conn, *Pending, []byte, int) {}
func (greeter) Fail(*Conn, *Pending, Cause, bool) {}
func (greeter) Late(*Conn, *Pending)              {}
