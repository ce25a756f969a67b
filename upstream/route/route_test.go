package route

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestNewErrors(t *testing.T) {
	two := loopback(11211, 2)
	for _, c := range []struct {
		spec    Spec
		servers []Server
		want    string
	}{
		{Spec{}, two,
			`route: unknown distribution "", known are jump, ketama, modula, magent-modulo, magent-ketama, magent06-ketama`},
		{Spec{Distribution: "ketama", Hash: "sha1"}, two,
			`route: unknown hash "sha1", known are fnv1a_64, fnv1a_32, fnv1_64, fnv1_32, md5, crc32, crc32a, crc16, one_at_a_time, murmur, hsieh, jenkins`},
		{Spec{Distribution: "ketama", Hash: "default"}, two,
			`route: unknown hash "default" (libmemcached's default is one_at_a_time, twemproxy's fnv1a_64), known are fnv1a_64, fnv1a_32, fnv1_64, fnv1_32, md5, crc32, crc32a, crc16, one_at_a_time, murmur, hsieh, jenkins`},
		{Spec{Distribution: "jump", Hash: "md5"}, two,
			`route: jump has its own key hash, leave out "md5"`},
		{Spec{Distribution: "jump", Tag: "{"}, two,
			`route: hash tag "{" is 1 bytes long, want two such as "{}"`},
		{Spec{Distribution: "jump"}, nil,
			`route: no servers`},
		{Spec{Distribution: "magent-modulo"}, []Server{{Host: "a", Port: 1, Weight: 2}},
			`route: server 1 (a:1): magent-modulo knows no weights, this one has 2`},
		{Spec{Distribution: "magent-ketama"}, []Server{{Host: "a", Port: 1}, {Host: "b", Port: 1, Name: "a-1"}},
			`route: server 2 (b:1): "a-1" is already server 1`},
		{Spec{Distribution: "ketama"}, []Server{{Host: "a", Port: 11211}, {Host: "b", Port: 1, Name: "a"}},
			`route: server 2 (b:1): "a" is already server 1`},
		{Spec{Distribution: "jump"}, []Server{{Port: 1}, {Host: "::1", Port: 0}, {Host: "a", Port: 70000, Weight: -1}},
			"route: server 1 (:1): no host\n" +
				"route: server 2 (::1:0): port 0 is not in 1..65535\n" +
				"route: server 3 (a:70000): port 70000 is not in 1..65535\n" +
				"route: server 3 (a:70000): weight -1 is not in 1..2147483647"},
		{Spec{Distribution: "modula"}, []Server{{Host: "a", Port: 1, Weight: math.MaxInt32}, {Host: "b", Port: 1}},
			`route: the weights add up to more than 2147483647`},
	} {
		p, err := New(c.spec, c.servers)
		if err == nil || p != nil || err.Error() != c.want {
			t.Errorf("New(%+v, %+v) = %v,\n%v\nwant\n%s", c.spec, c.servers, p, err, c.want)
		}
	}
}

// TestNames checks that each listed name is accepted, in libmemcached's capitals
// too, and that an empty hash is twemproxy's.
func TestNames(t *testing.T) {
	servers := loopback(11211, 3)
	for _, d := range Distributions() {
		mustNew(t, Spec{Distribution: d}, servers)
	}
	for _, h := range append(Hashes(), "", "crc") {
		mustNew(t, Spec{Distribution: "ketama", Hash: h}, servers)
		mustNew(t, Spec{Distribution: "modula", Hash: strings.ToUpper(h)}, servers)
	}
	unnamed, named := mustNew(t, Spec{Distribution: "modula"}, servers), mustNew(t, Spec{Distribution: "modula", Hash: "fnv1a_64"}, servers)
	for _, key := range sampleKeys(100) {
		if unnamed.Pick(key) != named.Pick(key) {
			t.Errorf("%q: no hash and fnv1a_64 differ", key)
		}
	}
}

// sampleKeys returns n keys as applications name them.
func sampleKeys(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "user:%d:profile", i*7919)
	}
	return keys
}

func counts(p Picker, nodes int, keys [][]byte) []int {
	n := make([]int, nodes)
	for _, k := range keys {
		n[p.Pick(k)]++
	}
	return n
}

// TestFairness checks that each node's share of the keys is near its weight's
// share. Ketama's 160 points a node leave more to chance than jump does.
func TestFairness(t *testing.T) {
	keys := sampleKeys(100_000)
	for _, c := range []struct {
		spec    Spec
		weights []int
		within  float64
	}{
		{Spec{Distribution: "jump"}, []int{1, 1, 1}, 0.02},
		{Spec{Distribution: "jump"}, slices.Repeat([]int{1}, 11), 0.04},
		{Spec{Distribution: "jump"}, []int{1, 3, 2, 10}, 0.04},
		{Spec{Distribution: "ketama", Hash: "md5"}, []int{1, 1, 1}, 0.25},
		{Spec{Distribution: "ketama", Hash: "murmur"}, slices.Repeat([]int{1}, 11), 0.25},
		{Spec{Distribution: "ketama"}, []int{1, 3, 2, 4}, 0.25},
		{Spec{Distribution: "modula", Hash: "md5"}, []int{1, 3, 2, 10}, 0.04},
		{Spec{Distribution: "magent-ketama"}, []int{1, 1, 1}, 0.1},
	} {
		total := 0
		for _, w := range c.weights {
			total += w
		}
		for i, got := range counts(mustNew(t, c.spec, weighted(c.weights)), len(c.weights), keys) {
			want := float64(len(keys)*c.weights[i]) / float64(total)
			if off := math.Abs(float64(got)/want - 1); off > c.within {
				t.Errorf("%+v weights %v: node %d has %d keys, want %.0f within %.0f%%", c.spec, c.weights, i, got, want, 100*c.within)
			}
		}
	}
}

// TestMovement checks that a node added at the end takes its share of the keys
// and that no key moves between the others: what jump and rings are for.
func TestMovement(t *testing.T) {
	for _, c := range []struct {
		dist          string
		before, after []int // weights
		share         float64
		within        float64
	}{
		{"jump", []int{1}, []int{1, 1}, 1. / 2, 0.02},
		{"jump", []int{1, 1}, []int{1, 1, 1}, 1. / 3, 0.03},
		{"jump", slices.Repeat([]int{1}, 10), slices.Repeat([]int{1}, 11), 1. / 11, 0.06},
		{"jump", []int{3, 2, 2}, []int{3, 2, 2, 4}, 4. / 11, 0.03},
		{"jump", []int{1, 1, 2}, []int{1, 1, 3}, 3./5 - 2./4, 0.05}, // its own keys stay
		{"ketama", []int{1, 1, 1}, []int{1, 1, 1, 1}, 1. / 4, 0.25},
		{"magent-ketama", []int{1, 1, 1}, []int{1, 1, 1, 1}, 1. / 4, 0.1},
	} {
		p := mustNew(t, Spec{Distribution: c.dist}, weighted(c.before))
		q := mustNew(t, Spec{Distribution: c.dist}, weighted(c.after))
		keys := sampleKeys(50_000)
		moved, last := 0, len(c.after)-1
		for _, k := range keys {
			switch from, to := p.Pick(k), q.Pick(k); {
			case from == to:
			case to == last:
				moved++
			default:
				t.Fatalf("%+v: %q moved from %d to %d, not to the last node", c, k, from, to)
			}
		}
		want := float64(len(keys)) * c.share
		if off := math.Abs(float64(moved)/want - 1); off > c.within {
			t.Errorf("%+v: %d keys moved, want %.0f within %.0f%%", c, moved, want, 100*c.within)
		}
	}
}

// weighted returns servers of these weights.
func weighted(weights []int) []Server {
	servers := loopback(11211, len(weights))
	for i, w := range weights {
		servers[i].Weight = w
	}
	return servers
}

// eachSpec runs f for every distribution with every hash that it takes.
func eachSpec(f func(Spec)) {
	for _, d := range distributions {
		if !d.hashed {
			f(Spec{Distribution: d.name})
			continue
		}
		for _, h := range Hashes() {
			f(Spec{Distribution: d.name, Hash: h})
		}
	}
}

// TestHashed has what magent 0.6 and 0.7 make of these keys, and XXH64 of nothing.
func TestHashed(t *testing.T) {
	for _, c := range []struct {
		spec      Spec
		key, part string
		hash      uint64
	}{
		{Spec{Distribution: "magent-modulo"}, "foo", "foo", 193491849},
		{Spec{Distribution: "magent-modulo", Tag: "{}"}, "a{foo}b", "foo", 193491849},
		{Spec{Distribution: "magent-modulo", Tag: "{}"}, "foo{}", "foo{}", uint64(djb([]byte("foo{}")))},
		{Spec{Distribution: "magent-ketama"}, "foo", "foo", 3675831724},
		{Spec{Distribution: "magent06-ketama"}, "foo", "foo", 3675831724 & 255},
		{Spec{Distribution: "magent06-ketama"}, "key273", "key273", 148758730},
		{Spec{Distribution: "ketama", Hash: "md5"}, "foo", "foo", 3675831724},
		{Spec{Distribution: "modula", Hash: "md5"}, "foo", "foo", 3675831724},
		{Spec{Distribution: "jump"}, "", "", 0xef46db3751d8e999},
	} {
		part, hash, ok := Hashed(mustNew(t, c.spec, loopback(11211, 3)), []byte(c.key))
		if string(part) != c.part || hash != c.hash || !ok {
			t.Errorf("%+v, %q: %q, %d, %v; want %q, %d", c.spec, c.key, part, hash, ok, c.part, c.hash)
		}
	}
	eachSpec(func(spec Spec) {
		if _, _, ok := Hashed(mustNew(t, spec, loopback(11211, 2)), []byte("k")); !ok {
			t.Errorf("%+v tells no hash", spec)
		}
		if _, _, ok := Hashed(mustNew(t, spec, loopback(11211, 1)), []byte("k")); ok {
			t.Errorf("%+v tells a hash of a single server", spec)
		}
	})
}
