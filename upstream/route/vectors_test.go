package route

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// vectors is one file of testdata; tools/vectors explains the format.
type vectors struct {
	keys   [][]byte
	pools  map[string][]Server
	places []place
	hashes []hashed
}

// place is where a peer puts each key: one digit in base 36 for each.
type place struct{ dist, hash, tag, pool, nodes string }

// hashed is what a peer's hash makes of each key.
type hashed struct {
	name string
	sums []uint32
}

func readVectors(t testing.TB, file string) vectors {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := vectors{pools: map[string][]Server{}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if err := v.line(lines.Text()); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vectors) line(line string) error {
	item, rest, _ := strings.Cut(line, " ")
	f := strings.Fields(rest)
	switch item {
	case "#":
	case "key":
		k, err := strconv.Unquote(rest)
		if err != nil {
			return err
		}
		v.keys = append(v.keys, []byte(k))
	case "pool":
		for _, s := range f[1:] {
			srv, err := parseServer(s)
			if err != nil {
				return err
			}
			v.pools[f[0]] = append(v.pools[f[0]], srv)
		}
	case "place":
		v.places = append(v.places, place{f[0], f[1], strings.Trim(f[2], "-"), f[3], f[4]})
	case "hash":
		h := hashed{name: f[0]}
		for _, s := range f[1:] {
			sum, err := strconv.ParseUint(s, 16, 32)
			if err != nil {
				return err
			}
			h.sums = append(h.sums, uint32(sum))
		}
		v.hashes = append(v.hashes, h)
	default:
		return fmt.Errorf("unknown item %q", item)
	}
	return nil
}

// parseServer reads host:port:weight:alias.
func parseServer(s string) (Server, error) {
	f := strings.Split(s, ":")
	if len(f) != 4 {
		return Server{}, fmt.Errorf("%q is not host:port:weight:alias", s)
	}
	port, err1 := strconv.Atoi(f[1])
	weight, err2 := strconv.Atoi(f[2])
	return Server{f[0], port, f[3], weight}, cmp.Or(err1, err2)
}

// TestPeerVectors checks every key that twemproxy and libmemcached were asked for.
func TestPeerVectors(t *testing.T) {
	for _, c := range []struct {
		file   string
		places int // so that a file that lost its end is noticed
	}{{"twemproxy.txt", 224}, {"libmemcached.txt", 108}} {
		v := readVectors(t, c.file)
		if len(v.places) != c.places {
			t.Errorf("%s has %d places, want %d", c.file, len(v.places), c.places)
		}
		for _, pl := range v.places {
			servers := v.pools[pl.pool]
			if c.file == "libmemcached.txt" && pl.dist == "modula" {
				servers = inListOrder(servers)
			}
			p, err := New(Spec{pl.dist, peerHash(pl.hash), pl.tag}, servers)
			if err != nil {
				t.Errorf("%s: %+v: %v", c.file, pl, err)
				continue
			}
			var got strings.Builder
			for _, k := range v.keys {
				got.WriteString(strconv.FormatInt(int64(p.Pick(k)), 36))
			}
			if got.String() != pl.nodes {
				t.Errorf("%s: %s %s tag %q %s\n got %s\nwant %s", c.file, pl.dist, pl.hash, pl.tag, pl.pool, got.String(), pl.nodes)
			}
		}
	}
}

// inListOrder gives the aliases that modula's comment recommends.
func inListOrder(servers []Server) []Server {
	servers = slices.Clone(servers)
	for i := range servers {
		servers[i].Name = strconv.Itoa(i)
	}
	return servers
}

// TestPeerHashes checks the hashes themselves, which places show only through a
// modulus or a ring.
func TestPeerHashes(t *testing.T) {
	v := readVectors(t, "libmemcached.txt")
	if len(v.hashes) != 9 {
		t.Errorf("%d hashes, want 9", len(v.hashes))
	}
	for _, h := range v.hashes {
		sum, err := findHash(peerHash(h.name))
		if err != nil {
			t.Error(err)
			continue
		}
		for i, k := range v.keys {
			if got := sum(k); got != h.sums[i] {
				t.Errorf("%s(%q) = %08x, want %08x", h.name, k, got, h.sums[i])
			}
		}
	}
}

// peerHash resolves the one name of libmemcached's that New refuses.
func peerHash(name string) string {
	if name == "default" {
		return "one_at_a_time"
	}
	return name
}
