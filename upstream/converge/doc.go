// Package converge decides what a write sends to the nodes beside its lead, so
// that all copies of its key end equal, or absent on a follower, whoever else
// writes.
//
// EffectOf is the table: what the lead's answer to an operation means for the
// others. Follow carries one effect to one follower, message by message: the
// write itself, the second look at the lead, and, if that has moved, the repair when
// its turn comes. AppendLead and AppendReply put a client's command into the form
// that makes the lead name the version it made, and its answer back.
//
// Nothing here does I/O, starts a goroutine or reads a clock; a Follow belongs to
// whoever drives it. It imports codec, repair, token and std.
//
// # What is sent
//
//	effect   to the follower             then                 because
//	Set      ms k n F T c                look: mg k c t u     the client's value is at hand
//	 of cas  ms k n F T C c              look                 C is the follower's version, asked for before
//	 of add  ms k n F T ME c             look                 see below
//	Delete   md k                        look, if it was there  a newer item may have been hit
//	Forget   md k                        nothing              a miss is safe, a stale item is none to copy
//	Touch    mg k T                      look                 a touch makes no version: its TTL tells
//	Copy     repair: mg, mg v, ms C, mg                       what a relative step, or a delete on a
//	                                                          condition, leaves is known to the lead alone
//
// A look that finds the lead as the write left it ends the matter: whoever
// changes the lead later reaches the follower later. Any other look asks for a
// repair; one may stand for several writes. Relative steps (incr, append, …) are
// never carried out at a follower. Two that cross would each leave an outcome that is
// right or wrong by chance, and one that a repair has copied already would be counted
// twice.
//
// # When the lead is lost
//
// Proxies do not hear of it at once, nor together. While the effect of a write is on
// its way, another proxy may have the follower lead, and be answered for writes there.
// An effect that arrives after them must not throw away what they have made of what
// was there. A blind write may: it is as if it had been given late. A write that went
// by a condition may not, since it would have been refused late. So its effect is
// guarded: by the version that the follower had before the lead was sent the write
// (C), or by there being no item (ME of an add). If that is not known, or nothing was
// there, which is no condition to hold on to as items come and go, the effect is a
// repair: it reads the lead, and so it does nothing once that is lost. A guard that
// fails leads to a repair too. If this ends as LeadLost with nothing Held before, the
// follower does not have the write, and it is for the next lead to carry it out.
//
// The guard stands for the item that the follower had, also where proxies make the
// versions and one may come back (E): a Source makes a version once, for one write,
// so that the same version is the same item, whatever came and went between. (A client
// that gives one version to two items itself has none to rely on.) But who stored it
// does not show: a repair that added an item and loses the lead before it could look
// again takes the item back, and may so take another's who has been answered. The
// survivor then misses, which is safe.
package converge
