package upstream

// Cause is why a request got no answer from a node.
type Cause uint8

const (
	CauseNone      Cause = iota
	CauseRefused         // the connection was not made
	CauseStranger        // it was made, and the node does not let us in
	CauseSlowDial        // the connection took longer than the connect timeout
	CauseLocal           // this process had no descriptor or port for it: no word on the node
	CauseReset           // the connection ended while requests were in flight
	CauseTimeout         // the oldest request in flight was left unanswered too long
	CauseDesync          // what came is no answer to what was asked
	CauseFull            // more requests in flight than a Conn holds
	CauseDown            // the node was known to be down
	CauseShutdown        // the proxy is closing
	CauseRestarted       // the process at the other end is not the one that the node was known as
	CauseFate            // it failed with a write that is not to be carried out twice
	NumCauses
)

var causes = [NumCauses]string{
	CauseNone:      "no cause",
	CauseRefused:   "connection refused",
	CauseStranger:  "it does not let magent in",
	CauseSlowDial:  "connect timeout",
	CauseLocal:     "proxy has no file or port left",
	CauseReset:     "connection reset",
	CauseTimeout:   "timeout",
	CauseDesync:    "protocol error",
	CauseFull:      "too many requests in flight",
	CauseDown:      "down",
	CauseShutdown:  "proxy is shutting down",
	CauseRestarted: "restarted",
	CauseFate:      "it failed, and whether the write counts is not known",
}

func (c Cause) String() string { return causes[c] }
