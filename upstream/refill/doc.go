// Package refill gives a node that came back empty the keys of another: the
// source. It adds, and never overwrites.
//
// Copier is the machine: a window of keys in flight, each of them a repair.Repair
// that begins Cold. It is given the bytes that the two nodes send and says which to
// send them; it does no I/O, starts no goroutine and reads no clock. Pace says when a
// further key may begin, as pure. Both belong to one goroutine at a time. Run drives
// them, and two sockets, on one goroutine of its own, which waits in ppoll(2), or on that
// of a Host, where it does not wait. The package imports codec, repair, token, x/sys and std.
//
// # Copy, then verify
//
//	source                          target
//	mg k v f t c h u k ──▶ VA c7
//	                                ms k LEN F T ME q O5 ──▶
//	                                …
//	                                ms z LEN F T ME c O9 ──▶ HD c43 O9
//	                                mn ──▶ MN
//	mg k c t u k ──▶ HD c7: Copied
//
// Adds are quiet, as answers cost the node and its reader about what the add does; an mn
// behind a batch of them says that they are carried out. Nothing is looked at again before
// that. What the second look finds as it was is done. The few others are repaired like
// any key of which nothing is known, from the copy's version on, as are all adds of a batch
// in which there was an error, which does not say whose it is.
//
// Writers change the source first and the target after it, as a node that is being
// refilled is never the lead. So a target that has the key (NS) has it from one who
// came later: Present. If the source has lost the key when it is looked at again,
// what was added goes, on the condition that it is still what was added: Withdrawn.
// If it has changed, or been touched, it is read and written once more, on the same
// condition. Package repair says why that converges; the explorer of package converge
// goes through it with every kind of writer.
//
// An item with a TTL of more than 30 days expires at a time of a node's clock. The source
// is asked what time it is behind the second look, and the key is Copied if it was that
// before the look as well: see clocks.go.
//
// # What a death leaves
//
// Between the add and the second look the target may hold what has been deleted. If
// the source dies then, Run takes back what it has not verified, by its version: a plain
// md would take what clients have written since the target leads. The version of a quiet
// add is known if nobody else has stored anything at the target while its batch was sent.
// Else one of several is, and if a client has just written that very key, within that
// batch, what he has written goes in its place: the survivor misses, which is better than
// that it should have what was deleted. If no version is known, as the last add of the
// batch was refused, or if the target fails, the keys in question are in Error.Doubt, and
// are debt of the target. If the process dies, nobody knows them: whoever refills in its place must
// have the target forget everything first (flush_all). A further refill that adds is
// not enough, and would take an old item for a newer one.
package refill
