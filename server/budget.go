package server

// budget bounds what a lane asks of its nodes beyond what its clients ask for: a
// token bucket that traffic fills, and not time, so that it is a share of that. It
// costs nothing until it is asked. (The retry budgets of Finagle and gRPC are such.)
type budget struct {
	share  float64 // tokens for each read that was answered
	burst  float64 // most tokens at a time
	tokens float64
	seen   uint64 // reads when it was last asked
}

const (
	// retryShare is how many of the reads may be asked again. Its burst is all that one
	// Conn can have in flight: one death is no storm.
	retryShare = 0.20
	// hedgeShare is how many may be asked of two replicas. Its burst is what a thousand
	// clients ask in the time that a node takes to be found slow.
	hedgeShare = 0.05
	hedgeBurst = 4096
)

// take takes one token if there is one. reads is how many the lane has answered.
func (b *budget) take(reads uint64) bool {
	b.tokens = min(b.tokens+float64(reads-b.seen)*b.share, b.burst)
	b.seen = reads
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
