// Package bench is what magent is judged by, as commands: the load generator and the
// comparison with rivals. The work is done in the packages below it.
//
//	bench → compare → load → wire → keys
//	            ↘       ↘ meter
//	              process
//
// It imports nothing of the proxy, and neither do they: a judge must not share the bugs
// of the judged.
package bench
