// Package inspect looks at what nodes hold of single keys, beside the traffic, and says
// how two of them differ: a Node asks one memcached, Compare judges what two have said.
//
// To be looked at leaves no trace at an item: it does not count as used, and neither its
// place in the LRU, its TTL nor its version changes. An item that is stale hands the right
// to make it anew to the first who reads it, and then that is given back, which is a new
// version of it. The node counts a get.
//
// A Node belongs to one goroutine, and blocks it; Compare is pure. The package imports
// codec/text, dial for connections, refill for how keys are written, repair for what answers
// mean, and std.
package inspect

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	"magent/codec/text"
	"magent/upstream/refill"
	"magent/upstream/repair"
)

// Key is a key that nodes can be asked for.
type Key struct {
	Name    []byte // as it is
	Written []byte // as a request names it
	Base64  bool   // that is in base64
}

// NewKey is the key called name, of which the Key is a view. What is wrong with one that
// there cannot be, or that no node can be asked for, is a sentence.
func NewKey(name []byte) (Key, error) {
	switch {
	case len(name) == 0:
		return Key{}, errors.New("a key has a byte at least")
	case len(name) > text.MaxKey:
		return Key{}, fmt.Errorf("a key has %d bytes at most, this one has %d", text.MaxKey, len(name))
	}
	written, coded := refill.Written(name)
	if len(written) > text.MaxKey {
		return Key{}, fmt.Errorf("with a space or a control character in it a key goes in base64, which is then %d bytes long, and nodes take %d", len(written), text.MaxKey)
	}
	return Key{Name: name, Written: written, Base64: coded}, nil
}

// Item is what a node holds of a key. Without Found there is nothing, and all else is zero
// but At.
type Item struct {
	Found   bool
	At      time.Time         // when the node said so
	Size    int               // of the value, in bytes
	Sum     [sha256.Size]byte // of the value; zero if that was not asked for
	Front   []byte            // the beginning of the value, as much as was asked for
	Flags   uint64            // the client's
	TTL     int64             // in seconds; repair.Forever, or 0 if it has just expired
	CAS     uint64            // its version, by the node's own count
	Idle    time.Duration     // since it was last accessed, to the second; memcached notes one access a minute
	Fetched bool              // it was read since it was stored
	Marks   repair.Marks
	Refused string // the node's error, in place of all else
}

// fit reports whether followers are to hold it, too: what is stale, and what mg with N has
// made, they are not to have.
func (i *Item) fit() bool {
	return i.Found && i.TTL != 0 && !i.Has(repair.MarkStale) && !(i.Has(repair.MarkSent) && i.Size == 0)
}

// Has reports whether all of m are set.
func (i *Item) Has(m repair.Marks) bool { return i.Marks&m == m }

// Difference is how what a replica holds differs from what the lead holds.
type Difference uint8

const (
	Same    Difference = iota
	Missing            // the lead has an item, the replica has none
	Extra              // the replica has an item, the lead has none that replicas are to have
	Value              // both have one, with other values
	Flags              // with one value, and other client flags
	TTL                // with one value and flags, and TTLs that are too far apart
	Unknown            // one of the nodes has refused to say
	NumDifferences
)

var differences = [NumDifferences]string{"same", "missing", "extra", "value", "flags", "ttl", "unknown"}

func (d Difference) String() string { return differences[d] }

// Compare says how the replica's item differs from the lead's. TTLs are those of two
// clocks that count whole seconds: they may differ as much as repair.SameTTL allows, in
// the time between the two answers.
func Compare(lead, replica *Item) Difference {
	switch {
	case lead.Refused != "" || replica.Refused != "":
		return Unknown
	case !lead.fit() && replica.fit():
		return Extra
	case !lead.fit():
		return Same
	case !replica.Found:
		return Missing
	case lead.Size != replica.Size || lead.Sum != replica.Sum || replica.Has(repair.MarkStale):
		return Value
	case lead.Flags != replica.Flags:
		return Flags
	case !sameTTL(lead, replica):
		return TTL
	}
	return Same
}

func sameTTL(a, b *Item) bool {
	if a.At.After(b.At) {
		a, b = b, a
	}
	return repair.SameTTL(a.TTL, b.TTL, int64(math.Ceil(b.At.Sub(a.At).Seconds())))
}
