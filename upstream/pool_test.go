package upstream

import (
	"slices"
	"testing"

	"magent/upstream/health"
	"magent/upstream/route"
)

// length picks by the length of the key.
type length struct{ n int }

func (l length) Pick(key []byte) int { return len(key) % l.n }

func testPool() *Pool {
	var nodes []*Node
	for _, name := range []string{"a", "b", "c", "d"} {
		nodes = append(nodes, NewNode(name, "tcp", ""))
	}
	return NewPool(nodes, []Placement{{[]int{2, 0}, length{2}}, {[]int{3}, length{1}}, {[]int{1, 0}, length{2}}})
}

func TestPeersAreInOtherCopies(t *testing.T) {
	p := testPool()
	for node, want := range [][]int{{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}} {
		if got := p.Peers(node); !slices.Equal(got, want) {
			t.Errorf("the peers of %d are %d, want %d", node, got, want)
		}
	}
	alone := NewPool([]*Node{NewNode("a", "tcp", ""), NewNode("b", "tcp", "")}, []Placement{{[]int{0, 1}, length{2}}})
	if got := alone.Peers(0); len(got) != 0 {
		t.Errorf("in a pool of one copy a node has the peers %d", got)
	}
}

func TestStateOfAReplica(t *testing.T) {
	p := testPool()
	p.Health.Move(0, p.Health.Load(0), health.Down)
	p.Health.Move(1, p.Health.Load(1), health.Warming)
	for _, tc := range []struct {
		copy int
		key  string
		node int
		want health.State
	}{{0, "kk", 2, health.Up}, {0, "k", 0, health.Down}, {1, "k", 3, health.Up}, {2, "kk", 1, health.Warming}} {
		if node, s := p.State(tc.copy, []byte(tc.key)); node != tc.node || s != tc.want {
			t.Errorf("copy %d of %s is %v in node %d, want %v in node %d", tc.copy, tc.key, s, node, tc.want, tc.node)
		}
	}
}

// A node that stands in every copy can be stood in for where the copies place no key twice
// on it: not where lists of one order meet, nor where placement follows names, or where the
// lists are of different length and so agree by chance.
func TestDoubled(t *testing.T) {
	for _, c := range []struct {
		name         string
		distribution string
		copies       [][]int
		want         []bool
	}{
		{"one copy", "magent-modulo", [][]int{{0, 1}}, []bool{false, false}},
		{"each other's backup", "magent-modulo", [][]int{{0, 1}, {1, 0}}, []bool{true, true}},
		{"in one order", "magent-modulo", [][]int{{0, 1}, {0, 1}}, []bool{false, false}},
		{"three in a circle", "magent-modulo", [][]int{{0, 1, 2}, {1, 2, 0}}, []bool{true, true, true}},
		{"three copies in a circle", "magent-modulo", [][]int{{0, 1, 2}, {1, 2, 0}, {2, 0, 1}}, []bool{true, true, true}},
		{"the third copy as the first", "magent-modulo", [][]int{{0, 1}, {1, 0}, {0, 1}}, []bool{true, true}},
		{"two places of three changed", "magent-modulo", [][]int{{0, 1, 2}, {1, 0, 2}}, []bool{true, true, false}},
		{"lists of different length", "magent-modulo", [][]int{{0, 1}, {1, 0, 2}}, []bool{false, false, false}},
		{"not in all copies", "magent-modulo", [][]int{{0, 1}, {1, 0}, {2}}, []bool{false, false, false}},
		{"a ring of names", "ketama", [][]int{{0, 1}, {1, 0}}, []bool{false, false}},
	} {
		nodes, copies := make([]*Node, 3), []Placement(nil)
		for i, host := range []string{"a", "b", "c"} {
			nodes[i] = NewNode(host, "tcp", "")
		}
		for _, list := range c.copies {
			var servers []route.Server
			for _, i := range list {
				servers = append(servers, route.Server{Host: nodes[i].Name, Port: 11211})
			}
			pick, err := route.New(route.Spec{Distribution: c.distribution}, servers)
			if err != nil {
				t.Fatal(err)
			}
			copies = append(copies, Placement{list, pick})
		}
		p := NewPool(nodes, copies)
		for i, want := range c.want {
			if got := p.doubled[i]; got != want {
				t.Errorf("%s: %s: %v, want %v", c.name, nodes[i].Name, got, want)
			}
		}
	}
}
