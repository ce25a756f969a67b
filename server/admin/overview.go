package admin

import "time"

// Overview is what a magent has counted up to now, for who asks again and again: what
// happens in a second is the difference between two. Of counters, which begin at 0 with
// the process, the comment says so.
type Overview struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"` // another one is another process, whose counters begin anew
	Now     time.Time `json:"now"`
	Ready   Ready     `json:"readiness"`
	Loops   int       `json:"loops"`
	Silent  int       `json:"silent"` // loops that did not answer; what they count is as it was when they last did
	Clients Clients   `json:"clients"`
	Pools   []Pool    `json:"pools"`
	Events  uint64    `json:"events"` // the number of the latest event; 0: there is none
}

// Clients is what is known of clients, and of what they ask for, whichever pool has it.
type Clients struct {
	Connected  uint64  `json:"connected"`
	Accepted   uint64  `json:"accepted"`       // counter
	Refused    uint64  `json:"refused"`        // counter: there were too many, or their address is not allowed
	Received   uint64  `json:"received_bytes"` // counter
	Sent       uint64  `json:"sent_bytes"`     // counter
	Requests   uint64  `json:"requests"`       // counter: commands
	Hits       uint64  `json:"hits"`           // counter: keys
	Misses     uint64  `json:"misses"`         // counter: keys
	Errors     uint64  `json:"errors"`         // counter: commands answered with an error
	FailedOver uint64  `json:"failed_over"`    // counter: requests moved from a node that did not answer to another
	Retries    uint64  `json:"retries"`        // counter: reads asked again
	Hedges     uint64  `json:"hedges"`         // counter: late reads asked of a second node, too
	Repairs    int     `json:"repairs"`        // keys that wait to be repaired, or are being
	Reads      Latency `json:"reads"`          // as clients find it
	Writes     Latency `json:"writes"`         // the same
}

// Pool is the nodes that hold one key space. What it counts is the sum of its nodes'.
type Pool struct {
	Name   string  `json:"name"`
	Hits   uint64  `json:"hits"`   // counter
	Misses uint64  `json:"misses"` // counter
	Debt   int     `json:"debt"`
	Took   Latency `json:"took"`
	Copies []Copy  `json:"copies"`
}

// Copy is one placement of the key space.
type Copy struct {
	Number int      `json:"number"`
	Nodes  []Member `json:"nodes"`
}

// Member is one node of a copy. One that stands in several copies is in each, with the
// same numbers.
type Member struct {
	Node
	Version     string  `json:"version,omitempty"` // what it says it is
	Connections int     `json:"connections"`
	InFlight    int     `json:"in_flight"`              // requests that it has not answered
	Hits        uint64  `json:"hits"`                   // counter: keys that clients asked it for, and it had
	Misses      uint64  `json:"misses"`                 // counter: keys that it had not
	Received    uint64  `json:"received_bytes"`         // counter
	Sent        uint64  `json:"sent_bytes"`             // counter
	Took        Latency `json:"took"`                   // of requests to it, magent's own beside the clients'
	ProbeError  string  `json:"probe_error,omitempty"`  // why the latest probe failed
	Held        float64 `json:"held_seconds,omitempty"` // for how long damping holds it back yet
}

// Latency is how long requests took.
type Latency struct {
	Count   uint64   `json:"count"`       // counter
	Sum     float64  `json:"sum_seconds"` // counter
	Buckets []Bucket `json:"buckets"`     // those with anything in them, shortest first
}

// Bucket is an index i and a counter: of what took at most 2^(i/8) seconds, and longer
// than 2^((i-1)/8).
type Bucket [2]int64
