package fleet

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strings"
)

// Prefix begins every key that magents keep on nodes for themselves. A refill has no
// business with them.
const Prefix = "magent:"

// markerKey is where a node's marker lies. It is 250 bytes at most, as any key.
const markerKey = Prefix + "warm"

// maxAddress is how long an address may be to stand in a key: any of IP, with a zone.
const maxAddress = 100

// leaseKey is where the lease for refilling the node at address in its present life
// lies. Magents that write one node's address differently have leases of their own.
func leaseKey(address string, life uint64) string {
	return fmt.Sprintf("%srefill:%s:%016x", Prefix, named(address), life)
}

// named is a node's address as a key may hold it.
func named(address string) string {
	if len(address) > maxAddress || strings.ContainsFunc(address, odd) {
		h := fnv.New64a()
		h.Write([]byte(address))
		address = fmt.Sprintf("#%016x", h.Sum64())
	}
	return address
}

// odd is of what may not stand in a key, or in an id.
func odd(r rune) bool { return r <= ' ' || r >= 0x7f }

// NewID names one magent among all there are and were, and tells people where it is:
// HOST/PID/RANDOM. It has 150 bytes at most, none of which is a space.
func NewID() string {
	host, err := os.Hostname()
	if err != nil || host == "" || len(host) > maxAddress {
		host = "?"
	}
	host = strings.Map(func(r rune) rune {
		if odd(r) {
			return '-'
		}
		return r
	}, host)
	return fmt.Sprintf("%s/%d/%016x", host, os.Getpid(), rand.Uint64())
}
