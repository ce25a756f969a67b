package memnode

// item is one key's value and its header. The bytes of value are never changed
// in place, so a reply may use them after the store's lock is given up; all else
// belongs to the lock.
type item struct {
	key        string
	value      []byte
	prev, next *item // neighbours in the LRU list, nil when not linked
	cas        uint64
	flags      uint32
	exptime    uint32 // store time, 0: never
	access     uint32 // store time
	is         itemBits
}

type itemBits uint8

const (
	fetched itemBits = 1 << iota // read at least once
	stale                        // marked by md I, or stored by ms I with an old CAS
	won                          // a client was told W and is to bring a new value
	binary                       // stored with a base64 key, and shown with one
)

// The sizes memcached counts, on 64 bits: a header, the key with a NUL, the
// flags unless they are 0, the CAS, the value with its CRLF.
const (
	headerSize = 48
	casSize    = 8
	flagsSize  = 4
	chunkMax   = 512 << 10 // a larger item is chunked, and no counter
	overhead   = 64        // what an item takes here beyond that, map entry included
)

func sizeOf(nkey int, flags uint32, nvalue int) int {
	n := headerSize + nkey + 1 + casSize + nvalue + 2
	if flags != 0 {
		n += flagsSize
	}
	return n
}

func (it *item) size() int { return sizeOf(len(it.key), it.flags, len(it.value)) }

// cost is what the item counts against MaxBytes.
func (it *item) cost() int64 { return int64(it.size() + overhead) }

// classes are the slab sizes memcached would use: from 96 bytes on by a factor
// of 1.25, multiples of 8, the last one chunkMax.
var classes = func() (sizes []int) {
	const factor = 1.25
	for size := 96; float64(size) < chunkMax/factor; size = int(float64(size) * factor) {
		size = (size + 7) &^ 7
		sizes = append(sizes, size)
	}
	return append(sizes, chunkMax)
}()

// class is the slab class of the item, counted from 1.
func (it *item) class() int {
	for i, size := range classes {
		if it.size() <= size {
			return i + 1
		}
	}
	return len(classes)
}
