package route

import (
	"crypto/md5"
	"strconv"
)

// magentModulo is the default placement of magent 0.6: a 31-bit djb hash modulo
// the number of nodes. Hosts and ports play no part. 33 = 3*11 makes it uneven
// over 3 and over 11 nodes.
type magentModulo struct{ nodes uint32 }

func newMagentModulo(_ keyHash, servers []Server) Picker {
	return magentModulo{uint32(len(servers))}
}

func (m magentModulo) Pick(key []byte) int { return int(djb(key) % m.nodes) }

func (m magentModulo) sum(key []byte) uint64 { return uint64(djb(key)) }

// djb is Bernstein's h*33 + c from 5381, of 32 bits without the top one. Chars
// are signed, as they were on the x86 machines that filled those caches; an ARM
// build of magent places keys with bytes from 0x80 up elsewhere.
func djb(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = h*33 + signed(c)
	}
	return h & 0x7fffffff
}

// magentKetama is magent's -k as memagent 0.7 mended it: a ring of about 2000
// points a node, keys by the first word of their MD5.
type magentKetama struct{ ring ring }

func newMagentKetama(_ keyHash, servers []Server) Picker {
	return &magentKetama{newMagentRing(servers)}
}

func (m *magentKetama) Pick(key []byte) int { return m.ring.at(hashMD5(key)) }

func (m *magentKetama) sum(key []byte) uint64 { return uint64(hashMD5(key)) }

// magent06Ketama is -k as magent 0.6 has it: the same ring, but the key hash is
// cut to the first byte of the MD5. That is below every point of any usual
// ring, so all keys go to the node of the lowest point; all but those of hash
// 0, which that version took for an error and placed by modulo. It is here to
// find what such a cache holds, and for nothing else.
type magent06Ketama struct {
	ring   ring
	modulo magentModulo
}

func newMagent06Ketama(_ keyHash, servers []Server) Picker {
	return &magent06Ketama{newMagentRing(servers), magentModulo{uint32(len(servers))}}
}

func (m *magent06Ketama) Pick(key []byte) int {
	if h := md5.Sum(key)[0]; h != 0 {
		return m.ring.at(uint32(h))
	}
	return m.modulo.Pick(key)
}

// sum is the hash of the modulo for a key that goes by that.
func (m *magent06Ketama) sum(key []byte) uint64 {
	if h := md5.Sum(key)[0]; h != 0 {
		return uint64(h)
	}
	return m.modulo.sum(key)
}

// newMagentRing builds magent's ring, all nodes of one weight. magent leaves ties
// to qsort, which glibc carries out as a merge sort: the node earlier in the list
// wins.
func newMagentRing(servers []Server) ring {
	nodes := make([]ringNode, len(servers))
	for i, s := range servers {
		nodes[i] = ringNode{i, magentName(s), magentDigests(len(servers))}
	}
	return newRing(nodes)
}

// magentDigests is the number of digests of each of n nodes: 500, but computed
// in float32 as magent does, and so 499 at some counts (47, 59, 83, ...).
func magentDigests(n int) int {
	share := 100 / (100 * float32(n))
	return int(share * 500 * float32(n))
}

// magentName is what magent hashes for a node. Note the dash.
func magentName(s Server) string {
	if s.Name != "" {
		return s.Name
	}
	return s.Host + "-" + strconv.Itoa(s.Port)
}
