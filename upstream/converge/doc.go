// Package converge decides what a write sends to the nodes beside its lead, so
// that all copies of its key end equal, or absent on a follower, whoever else
// writes.
//
// EffectOf is the table: what the lead's answer to an operation means for the
// others. Follow carries one effect to one follower, message by message: the
// write itself, the second look at the lead, and the repair if that has moved.
// AppendLead and AppendReply put a client's command into the form that makes the
// lead name the version it made, and its answer back.
//
// Nothing here does I/O, starts a goroutine or reads a clock; a Follow belongs to
// whoever drives it. It imports codec, repair and std.
//
// # What is sent
//
//	effect   to the follower             then                 because
//	Set      ms k n F T c                look: mg k c t u     the client's value is at hand
//	Delete   md k                        look, if it was there  a newer item may have been hit
//	Forget   md k                        nothing              a miss is safe, a stale item is none to copy
//	Touch    mg k T                      look                 a touch makes no version: its TTL tells
//	Copy     repair: mg, mg v, ms C, mg                       the result of a relative step is the lead's alone
//
// A look that finds the lead as the write left it ends the matter: whoever
// changes the lead later reaches the follower later. Any other look begins a
// repair. Relative steps (incr, append, …) are never carried out at a follower.
// Two that cross would each leave an outcome that is right or wrong by chance, and
// one that a repair has copied already would be counted twice.
package converge
