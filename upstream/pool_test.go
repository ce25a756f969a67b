package upstream

import (
	"slices"
	"testing"

	"magent/upstream/health"
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
