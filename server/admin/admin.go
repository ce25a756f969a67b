// Package admin is how people, and what they have running, ask a magent how its nodes
// are and tell it what to do with one: HTTP with JSON, on a socket file that only the
// user of magent, and root, may open, on a loopback address, or where a token is asked for.
//
//	GET  /          the status page, and at /status.html
//	GET  /status    Status
//	GET  /overview  Overview
//	GET  /events    Events; with ?after=12, those after number 12
//	GET  /healthz   {"ok": true}, as long as the event loops turn
//	GET  /readyz    Ready; 503 if it is not. With ?warm=1, 503 if it is not warm
//	GET  /explain   Explanation of ?key=KEY, with the front of its value after &value=1, of &pool=NAME
//	GET  /metrics   for Prometheus, as Options has it
//	GET  /config    the configuration in force, as a file
//	GET  /debug/pprof/...
//	POST /resync    {"node": "10.0.0.1:11211", "from": "10.0.0.2:11211"}
//	POST /drain     {"node": "10.0.0.1:11211", "on": true}
//	POST /diff      DiffQuestion; answered line by line, at the end by {"diff": Diff}
//	POST /top       TopQuestion; answered by Top when it has been counted
//	POST /failover  {"leave": false}
//	POST /resume    {}
//	POST /reload    {}; 422 with {"error": "a sentence", "faults": ["..."]} if the file has any
//
// What is refused is answered with {"error": "a sentence"}. A POST must say that its
// body is application/json, and on a loopback address, where no token is asked for,
// requests must name that as their host: so no page in a browser of this machine can send one.
//
// A Server has goroutines of its own and calls its Proxy on them. The package owns both
// ends, server and client, knows nothing of the proxy but what it declares here, and
// imports std only.
package admin

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Proxy is what the endpoint needs of a magent. Any number of goroutines call it at once.
// Its errors are sentences for the person who asked.
type Proxy interface {
	Status() Status
	// Overview is what has been counted up to now. It takes a second at most.
	Overview() Overview
	// Events are the latest events after number, oldest first, and the number of the last
	// there is.
	Events(after uint64) (all []Event, last uint64)
	// Resync begins to refill node from the node called from; it does not wait for the
	// end.
	Resync(node, from string) error
	// Drain takes the lead, and all reads, from node, and has it written still; or, with
	// on false, gives them back.
	Drain(node string, on bool) error
	// Ready says whether clients are served here; it is cheap, and never takes long.
	Ready() Ready
	// Healthy is nil as long as the event loops turn.
	Healthy() error
	// Failover gives the virtual addresses up, and returns when they have left this
	// machine; then the process stays, not ready, until Resume, or leaves. It is an
	// error that they have not left in time, and then all is as it was.
	Failover(ctx context.Context, leave bool) error
	// Resume has it be ready again after a Failover.
	Resume() error
	// Explain says where a key is and what the nodes hold of it.
	Explain(ctx context.Context, q Question) (Explanation, error)
	// Diff compares the copies of keys, and calls progress now and then.
	Diff(ctx context.Context, q DiffQuestion, progress func(DiffProgress)) (Diff, error)
	// Top counts which keys are asked for most, and who asks most.
	Top(ctx context.Context, q TopQuestion) (Top, error)
}

// File is where a magent has its configuration from. Any number of goroutines call it at once.
type File interface {
	// Config is the file that says what is in force. What is secret is in other files.
	Config() []byte
	// Reload reads the file anew and puts it in force, or fails and changes nothing: with an
	// *Unfit, if the file has faults. It returns when it has.
	Reload(ctx context.Context) error
}

// Unfit is that a configuration has faults, in words.
type Unfit struct{ Faults []string }

func (u *Unfit) Error() string {
	return "the configuration in force stays, as the file has faults:\n" + strings.Join(u.Faults, "\n")
}

// Ready is whether clients are served, and what is against it.
type Ready struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"` // why it is not ready, in words
	// OnlyNodes is that it is not ready, and the nodes are all that is wrong: a magent that
	// reaches them no better could do no more.
	OnlyNodes bool     `json:"only_nodes,omitempty"`
	Warm      bool     `json:"warm"`           // it is ready, and all nodes are up
	Cold      []string `json:"cold,omitempty"` // which nodes are not, in words
}

// Why is what is against being ready or, if that is asked for, warm; "" of nothing.
func (r Ready) Why(warm bool) string {
	reasons := r.Reasons
	if warm {
		reasons = slices.Concat(r.Reasons, r.Cold)
	}
	return strings.Join(reasons, "; ")
}

// Status is what a magent says of itself and of its pool.
type Status struct {
	Version string    `json:"version"`
	Since   time.Time `json:"since"` // when it was started
	Ready   Ready     `json:"readiness"`
	Nodes   []Node    `json:"nodes"`
}

// Node is one node of the pool as this magent sees it.
type Node struct {
	Pool   string    `json:"pool"` // that it is in
	Name   string    `json:"name"`
	Copy   int       `json:"copy"` // the first that it is in
	State  string    `json:"state"`
	Cause  string    `json:"cause"` // of the state, in words
	Since  time.Time `json:"since"` // when it came into the state
	Epoch  uint64    `json:"epoch"` // changes of state so far
	Debt   int       `json:"debt"`  // keys of which it missed writes
	Drain  bool      `json:"drain"` // it is being drained, or is
	Refill *Refill   `json:"refill,omitempty"`
}

// Refill is how far the refill of a node is that this magent is at.
type Refill struct {
	Phase string  `json:"phase"`
	Done  uint64  `json:"done"`  // keys looked at
	Total uint64  `json:"total"` // keys there are; 0: not known yet
	Keys  float64 `json:"keys_per_second"`
	Bytes float64 `json:"bytes_per_second"`
	ETA   *int    `json:"eta_seconds,omitempty"` // nil: nobody knows
}

// resync and drain are the bodies of the requests.
type resync struct {
	Node string `json:"node"`
	From string `json:"from"`
}

type drain struct {
	Node string `json:"node"`
	On   *bool  `json:"on"` // nil: it was not said
}

// failover is the body of a request for one.
type failover struct {
	Leave bool `json:"leave"`
}

// refusal is the body of every answer that is no success.
type refusal struct {
	Error  string   `json:"error"`
	Faults []string `json:"faults,omitempty"` // of an Unfit
}
