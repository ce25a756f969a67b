package route

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-jump"
)

// twin is New and Pick in one, as stupid as can be: nothing is prepared, rings
// are walked point by point, slots are written out. Key hashes and counts of
// digests are taken from the package; the vectors check those.
func twin(spec Spec, servers []Server, key string) int {
	if len(servers) == 1 {
		return 0
	}
	if spec.Tag != "" {
		if _, after, ok := strings.Cut(key, spec.Tag[:1]); ok {
			if inside, _, ok := strings.Cut(after, spec.Tag[1:]); ok && inside != "" {
				key = inside
			}
		}
	}
	hash, _ := findHash(spec.Hash)
	h, n := hash([]byte(key)), len(servers)
	sum := md5.Sum([]byte(key))
	inOrder := make([]int, n)
	for i := range inOrder {
		inOrder[i] = i
	}
	sorted := slices.SortedFunc(slices.Values(inOrder), func(i, j int) int {
		name := func(i int) string { return fmt.Sprintf("%5d %s", len(ketamaName(servers[i])), ketamaName(servers[i])) }
		return cmp.Compare(name(i), name(j))
	})
	switch spec.Distribution {
	case "jump":
		all := repeat(servers, inOrder)
		return all[jump.Hash(xxhash.Sum64String(key), len(all))]
	case "modula":
		all := repeat(servers, sorted)
		return all[h%uint32(len(all))]
	case "ketama":
		return walk(servers, sorted, ketamaName, ketamaDigests(servers), h)
	case "magent-ketama":
		return walk(servers, inOrder, magentName, slices.Repeat([]int{magentDigests(n)}, n), binary.LittleEndian.Uint32(sum[:]))
	case "magent06-ketama":
		if sum[0] != 0 {
			return walk(servers, inOrder, magentName, slices.Repeat([]int{magentDigests(n)}, n), uint32(sum[0]))
		}
	}
	return twinModulo(key, n)
}

// repeat lists each node as often as it weighs.
func repeat(servers []Server, order []int) []int {
	var all []int
	for _, i := range order {
		all = append(all, slices.Repeat([]int{i}, servers[i].Weight)...)
	}
	return all
}

// walk returns the node of the point that comes first going up from h and round.
func walk(servers []Server, order []int, name func(Server) string, digests []int, h uint32) int {
	best, nearest := -1, uint64(math.MaxUint64)
	for _, i := range order {
		for k := range digests[i] {
			sum := md5.Sum(fmt.Appendf(nil, "%s-%d", name(servers[i]), k))
			for w := 0; w < len(sum); w += 4 {
				if d := uint64(binary.LittleEndian.Uint32(sum[w:]) - h); d < nearest {
					best, nearest = i, d
				}
			}
		}
	}
	return best
}

// twinModulo takes signed chars and the modulus the long way.
func twinModulo(key string, n int) int {
	h := int64(5381)
	for _, c := range []byte(key) {
		char := int64(c)
		if char > 127 {
			char -= 256
		}
		h = (h*33 + char + 1<<32) % (1 << 32)
	}
	return int(h % (1 << 31) % int64(n))
}

// world is a Spec and servers made of a few random numbers.
func world(dist, hash, nodes, weights uint8, tag bool) (Spec, []Server) {
	d := distributions[int(dist)%len(distributions)]
	spec := Spec{Distribution: d.name}
	if d.hashed {
		spec.Hash = Hashes()[int(hash)%len(Hashes())]
	}
	if tag {
		spec.Tag = "{}"
	}
	servers := loopback(11209, 1+int(nodes)%8)
	for i := range servers {
		servers[i].Weight = 1
		if d.weighted {
			servers[i].Weight += int(weights) >> i % 4
		}
		if nodes&64 != 0 && i%2 == 1 {
			servers[i].Name = fmt.Sprintf("node%d", 20-i)
		}
	}
	return spec, servers
}

func TestTwin(t *testing.T) {
	same := func(key []byte, dist, hash, nodes, weights uint8, tag bool) bool {
		spec, servers := world(dist, hash, nodes, weights, tag)
		got, want := mustNew(t, spec, servers).Pick(key), twin(spec, servers, string(key))
		if got != want {
			t.Logf("%+v %+v: %q goes to %d, twin says %d", spec, servers, key, got, want)
		}
		return got == want
	}
	if err := quick.Check(same, &quick.Config{MaxCount: 300}); err != nil {
		t.Error(err)
	}
}

// TestRingEdges asks a ring right at, below and above each of its points.
func TestRingEdges(t *testing.T) {
	servers := loopback(11211, 3)
	for i := range servers {
		servers[i].Weight = 1 + i
	}
	digests := ketamaDigests(servers)
	r := newKetama(nil, servers).(*ketama).ring
	last := len(r.points) - 2 // before the guard
	for i := 0; i <= last; i += 7 {
		for _, h := range []uint32{r.points[i] - 1, r.points[i], r.points[i] + 1} {
			if got, want := r.at(h), walk(servers, []int{0, 1, 2}, ketamaName, digests, h); got != want {
				t.Fatalf("hash %d goes to %d, want %d", h, got, want)
			}
		}
	}
	for _, h := range []uint32{0, r.points[last] + 1, math.MaxUint32} {
		if got, want := r.at(h), int(r.nodes[0]); got != want {
			t.Errorf("hash %d goes to %d, want %d, the owner of the first point", h, got, want)
		}
	}
}

func FuzzPick(f *testing.F) {
	for _, k := range readVectors(f, "twemproxy.txt").keys {
		for d := range distributions {
			f.Add(k, uint8(d), uint8(len(k)), uint8(3), uint8(len(k)), true)
		}
	}
	for h := range hashes { // there is no empty key, but it must do no harm
		f.Add([]byte(nil), uint8(1), uint8(h), uint8(5), uint8(0), true)
	}
	f.Fuzz(func(t *testing.T, key []byte, dist, hash, nodes, weights uint8, tag bool) {
		spec, servers := world(dist, hash, nodes, weights, tag)
		got := mustNew(t, spec, servers).Pick(key)
		if got < 0 || got >= len(servers) {
			t.Fatalf("%+v: %q goes to %d of %d nodes", spec, key, got, len(servers))
		}
		if want := twin(spec, servers, string(key)); got != want {
			t.Errorf("%+v %+v: %q goes to %d, twin says %d", spec, servers, key, got, want)
		}
	})
}
