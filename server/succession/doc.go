// Package succession is what passes between a magent and the process that takes its
// place on the same machine: a Link between the two, and the Sockets that the new one
// finds open.
//
//	predecessor                      successor
//	  Wanted ──────────────────────────▶       at the start: what an operator has asked for
//	          ◀───────────────────────── Serving
//	  Away ────────────────────────────▶       which nodes are, before a client and whenever it changes
//	  Input, Client … ─────────────────▶       each client, at a moment when nothing of it is under way
//	  Debt … ──────────────────────────▶       what nodes have missed
//	  Over ────────────────────────────▶
//	          ◀───────────────────────── Taken
//
// Whoever ends closes its side, which the other reads as io.EOF. A Link may be read by
// one goroutine and written by another. The package knows nothing of the proxy and
// imports std and x/sys only.
package succession
