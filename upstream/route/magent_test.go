package route

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// loopback returns servers on 127.0.0.1 at ports from first up.
func loopback(first, n int) []Server {
	servers := make([]Server, n)
	for i := range servers {
		servers[i] = Server{Host: "127.0.0.1", Port: first + i}
	}
	return servers
}

func mustNew(t testing.TB, spec Spec, servers []Server) Picker {
	t.Helper()
	p, err := New(spec, servers)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMagentVectors(t *testing.T) {
	primaries, backups := loopback(11211, 3), loopback(21211, 2)
	pick := func(dist string, servers []Server) func(key []byte) string {
		p := mustNew(t, Spec{Distribution: dist}, servers)
		return func(key []byte) string { return strconv.Itoa(p.Pick(key)) }
	}
	columns := []struct {
		name string
		of   func(key []byte) string
	}{
		{"djb", func(key []byte) string { return fmt.Sprint(djb(key)) }},
		{"modulo of 3", pick("magent-modulo", primaries)},
		{"modulo of 2", pick("magent-modulo", backups)},
		{"0.6 -k", pick("magent06-ketama", primaries)},
		{"md5", func(key []byte) string { return fmt.Sprint(hashMD5(key)) }},
		{"0.7 -k", pick("magent-ketama", primaries)},
		{"0.7 -k backup", pick("magent-ketama", backups)},
	}
	file, err := os.ReadFile("testdata/magent.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		rows++
		key, err := strconv.Unquote(f[0])
		if err != nil || len(f) != 1+len(columns) {
			t.Fatalf("%q: %v, %d fields, want %d", line, err, len(f), 1+len(columns))
		}
		for i, c := range columns {
			if got := c.of([]byte(key)); got != f[1+i] {
				t.Errorf("%s of %q is %s, want %s", c.name, key, got, f[1+i])
			}
		}
	}
	if rows != 13 {
		t.Errorf("%d rows, want 13", rows)
	}
}

// TestMagentRing checks the rings of the same two lists: their first and last
// points, and how many there are.
func TestMagentRing(t *testing.T) {
	type head struct{ point, node uint32 }
	for _, c := range []struct {
		servers []Server
		points  int
		first   []head
		last    []head
	}{
		{loopback(11211, 3), 6000, []head{{669262, 1}, {1303630, 0}, {4045080, 1}, {4584128, 0}}, []head{{4294844913, 2}}},
		{loopback(21211, 2), 4000, []head{{1143435, 1}}, nil},
	} {
		r := newMagentRing(c.servers)
		all := make([]head, len(r.points)-1) // without the guard
		for i := range all {
			all[i] = head{r.points[i], r.nodes[i]}
		}
		if len(all) != c.points {
			t.Errorf("%d points, want %d", len(all), c.points)
		}
		if got := all[:len(c.first)]; !slices.Equal(got, c.first) {
			t.Errorf("first points %v, want %v", got, c.first)
		}
		if got := all[len(all)-len(c.last):]; !slices.Equal(got, c.last) {
			t.Errorf("last points %v, want %v", got, c.last)
		}
	}
}

// TestMagentRingRounding checks the counts of nodes at which float32 costs each
// node a digest.
func TestMagentRingRounding(t *testing.T) {
	var short []int
	for n := 2; n <= 101; n++ {
		if got := magentDigests(n); got == 499 {
			short = append(short, n)
		} else if got != 500 {
			t.Errorf("%d nodes have %d digests each", n, got)
		}
	}
	if want := []int{47, 59, 83, 94, 101}; !slices.Equal(short, want) {
		t.Errorf("499 digests at %v nodes, want %v", short, want)
	}
}

// TestMagent06SendsAllToOne pins the fault that magent06-ketama is there to
// repeat: every key at the node of the lowest point, but for the 1 of 256 that
// fall back to modulo.
func TestMagent06SendsAllToOne(t *testing.T) {
	servers := loopback(11211, 3)
	p, modulo := mustNew(t, Spec{Distribution: "magent06-ketama"}, servers), mustNew(t, Spec{Distribution: "magent-modulo"}, servers)
	const keys = 100_000
	lowest := 0
	for i := range keys {
		key := fmt.Appendf(nil, "key:%d", i)
		switch got := p.Pick(key); {
		case hashMD5(key)&0xff == 0:
			if want := modulo.Pick(key); got != want {
				t.Errorf("%q goes to %d, want %d by modulo", key, got, want)
			}
		case got == 1:
			lowest++
		default:
			t.Errorf("%q goes to %d, want 1", key, got)
		}
	}
	if want := keys * 255 / 256; lowest < want-200 || lowest > want+200 {
		t.Errorf("%d keys at the lowest point, want about %d", lowest, want)
	}
}
