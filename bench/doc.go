// Package bench is what magent is judged by, as commands: the load generator, the drill
// of a failure, and the comparison with rivals. It turns flags into configurations and
// results into text and JSON; the work is done in the packages below it.
//
//	bench → compare  → load → wire → keys
//	      → failover ↗    ↘ meter
//	              ↘ process
//
// A command runs on its caller's goroutine; on a terminal, the line of progress is drawn
// on those of the packages below. It imports cobra, pflag, x/term and hdrhistogram-go, and
// nothing of the proxy, and neither do they: a judge must not share the bugs of the judged.
package bench
