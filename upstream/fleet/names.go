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
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if len(address) > maxAddress || strings.ContainsFunc(address, bad) {
		h := fnv.New64a()
		h.Write([]byte(address))
		address = fmt.Sprintf("#%016x", h.Sum64())
	}
	return fmt.Sprintf("%srefill:%s:%016x", Prefix, address, life)
}

// newID names one Member among all there are and were, and tells people where it is:
// HOST/PID/RANDOM.
func newID() string {
	host, err := os.Hostname()
	if err != nil || host == "" || len(host) > maxAddress {
		host = "?"
	}
	return fmt.Sprintf("%s/%d/%016x", strings.Join(strings.Fields(host), "-"), os.Getpid(), rand.Uint64())
}

// The values of a marker: of a refill that is complete, and of one that has begun. Both
// name the magent, for people.
const (
	warmValue  = "%016x warm by %s"
	begunValue = "%016x begun by %s"
)

// warmIn reports whether a marker with this value says that the node is warm in life.
func warmIn(value string, life uint64) bool {
	return strings.HasPrefix(value, fmt.Sprintf(warmValue, life, ""))
}
