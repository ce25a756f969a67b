package route

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"strings"
)

// keyHash is a key hash of twemproxy's hashkit, which took them from
// libmemcached's. They are bit-exact to those programs on x86, where char is
// signed: where the originals widen one, a byte from 0x80 up counts as negative.
type keyHash func(key []byte) uint32

// defaultHash is twemproxy's default; libmemcached's is one_at_a_time.
const defaultHash = "fnv1a_64"

var hashes = []struct {
	name string
	sum  keyHash
}{
	{"fnv1a_64", hashFNV1a64},
	{"fnv1a_32", hashFNV1a32},
	{"fnv1_64", hashFNV164},
	{"fnv1_32", hashFNV132},
	{"md5", hashMD5},
	{"crc32", hashCRC32},
	{"crc32a", crc32.ChecksumIEEE},
	{"crc16", hashCRC16},
	{"one_at_a_time", hashOneAtATime},
	{"murmur", hashMurmur},
	{"hsieh", hashHsieh},
	{"jenkins", hashJenkins},
}

// Hashes lists the names that Spec.Hash takes, the default first.
func Hashes() []string {
	names := make([]string, len(hashes))
	for i, h := range hashes {
		names[i] = h.name
	}
	return names
}

// findHash takes twemproxy's names, and libmemcached's, which are the same in
// capitals but for CRC.
func findHash(name string) (keyHash, error) {
	want := strings.ToLower(name)
	switch want {
	case "":
		want = defaultHash
	case "crc":
		want = "crc32"
	}
	for _, h := range hashes {
		if h.name == want {
			return h.sum, nil
		}
	}
	hint := ""
	if want == "default" {
		hint = " (libmemcached's default is one_at_a_time, twemproxy's " + defaultHash + ")"
	}
	return nil, fmt.Errorf("route: unknown hash %q%s, known are %s", name, hint, strings.Join(Hashes(), ", "))
}

// signed widens c as C does a signed char.
func signed(c byte) uint32 { return uint32(int32(int8(c))) }

const (
	// fnv64Offset and fnv64Prime are the lower halves of FNV's 64-bit
	// constants. The originals return the lower half of the hash, and that
	// depends on no more than these.
	fnv64Offset = 0xcbf29ce484222325 & 0xffffffff
	fnv64Prime  = 0x100000001b3 & 0xffffffff
	fnv32Offset = 2166136261
	fnv32Prime  = 16777619
)

func hashFNV164(key []byte) uint32  { return fnv1(key, fnv64Offset, fnv64Prime) }
func hashFNV1a64(key []byte) uint32 { return fnv1a(key, fnv64Offset, fnv64Prime) }
func hashFNV132(key []byte) uint32  { return fnv1(key, fnv32Offset, fnv32Prime) }
func hashFNV1a32(key []byte) uint32 { return fnv1a(key, fnv32Offset, fnv32Prime) }

func fnv1(key []byte, h, prime uint32) uint32 {
	for _, c := range key {
		h = h*prime ^ signed(c)
	}
	return h
}

func fnv1a(key []byte, h, prime uint32) uint32 {
	for _, c := range key {
		h = (h ^ signed(c)) * prime
	}
	return h
}

// hashMD5 is the first little-endian word of the MD5.
func hashMD5(key []byte) uint32 {
	sum := md5.Sum(key)
	return binary.LittleEndian.Uint32(sum[:])
}

// hashCRC32 is what libmemcached calls CRC: 15 bits of the upper half of CRC-32.
// The whole of it is crc32a.
func hashCRC32(key []byte) uint32 { return crc32.ChecksumIEEE(key) >> 16 & 0x7fff }

var crc16Table = makeCRC16Table(0x1021)

func makeCRC16Table(poly uint16) (table [256]uint32) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ poly*carry
		}
		table[i] = uint32(crc)
	}
	return table
}

// hashCRC16 is CRC-16/XMODEM in a 32-bit register that is never cut to 16 bits,
// so that what is shifted out of the lower half is left in the upper.
func hashCRC16(key []byte) uint32 {
	crc := uint32(0)
	for _, c := range key {
		crc = crc<<8 ^ crc16Table[byte(crc>>8)^c]
	}
	return crc
}

// hashOneAtATime is Bob Jenkins's one-at-a-time (Dr. Dobb's, September 1997).
func hashOneAtATime(key []byte) uint32 {
	h := uint32(0)
	for _, c := range key {
		h += signed(c)
		h += h << 10
		h ^= h >> 6
	}
	h += h << 3
	h ^= h >> 11
	h += h << 15
	return h
}

// hashMurmur is Austin Appleby's MurmurHash2, seeded with 0xdeadbeef times the
// length.
func hashMurmur(key []byte) uint32 {
	const m = 0x5bd1e995
	n := uint32(len(key))
	h := n*0xdeadbeef ^ n
	for ; len(key) >= 4; key = key[4:] {
		k := binary.LittleEndian.Uint32(key) * m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	if len(key) > 0 {
		h = (h ^ tail32(key)) * m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// tail32 is the little-endian word that b, of at most 4 bytes, begins.
func tail32(b []byte) uint32 {
	w := uint32(0)
	for i, c := range b {
		w |= uint32(c) << (8 * i)
	}
	return w
}

// hashHsieh is Paul Hsieh's SuperFastHash from 0. The third byte of a tail of
// three is the only one taken as a signed char.
func hashHsieh(key []byte) uint32 {
	h := uint32(0)
	for ; len(key) >= 4; key = key[4:] {
		h += uint32(binary.LittleEndian.Uint16(key))
		h = h<<16 ^ uint32(binary.LittleEndian.Uint16(key[2:]))<<11 ^ h
		h += h >> 11
	}
	switch len(key) {
	case 3:
		h += uint32(binary.LittleEndian.Uint16(key))
		h ^= h << 16
		h ^= signed(key[2]) << 18
		h += h >> 11
	case 2:
		h += uint32(binary.LittleEndian.Uint16(key))
		h ^= h << 11
		h += h >> 17
	case 1:
		h += uint32(key[0])
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}

// hashJenkins is the third word of Bob Jenkins's lookup3 (hashlittle, May 2006),
// seeded with 13. It mixes each full 12 bytes but the last, which go into the
// final round even when they are whole.
func hashJenkins(key []byte) uint32 {
	a := 0xdeadbeef + uint32(len(key)) + 13
	b, c := a, a
	for ; len(key) > 12; key = key[12:] {
		a += binary.LittleEndian.Uint32(key)
		b += binary.LittleEndian.Uint32(key[4:])
		c += binary.LittleEndian.Uint32(key[8:])
		a, b, c = jenkinsMix(a, b, c)
	}
	if len(key) == 0 {
		return c
	}
	a += tail32(key[:min(4, len(key))])
	b += tail32(key[min(4, len(key)):min(8, len(key))])
	c += tail32(key[min(8, len(key)):])
	return jenkinsFinal(a, b, c)
}

func jenkinsMix(a, b, c uint32) (uint32, uint32, uint32) {
	for _, r := range [...][3]int{{4, 6, 8}, {16, 19, 4}} {
		a = (a - c) ^ bits.RotateLeft32(c, r[0])
		c += b
		b = (b - a) ^ bits.RotateLeft32(a, r[1])
		a += c
		c = (c - b) ^ bits.RotateLeft32(b, r[2])
		b += a
	}
	return a, b, c
}

func jenkinsFinal(a, b, c uint32) uint32 {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return c
}
