// Package refill gives a node that came back empty the keys of another: the
// source. It adds, and never overwrites.
//
// Copier is the machine: a window of keys in flight, each of them a repair.Repair
// that begins Cold. It is given the bytes that the two nodes send and says which to
// send them; it does no I/O, starts no goroutine and reads no clock. Pace says when a
// further key may begin, as pure. Both belong to one goroutine at a time. Run drives
// them with two blocking connections and four goroutines of its own: the request path
// pays nothing. The package imports codec, repair and std.
//
// # Copy, then verify
//
//	source                          target
//	mg k v f t c h u k ──▶ VA c7
//	                                ms k LEN F T ME c ──▶ HD c4
//	mg k c t u k ──▶ HD c7: Copied
//
// Writers change the source first and the target after it, as a node that is being
// refilled is never the lead. So a target that has the key (NS) has it from one who
// came later: Present. If the source has lost the key when it is looked at again,
// what was added goes, on the condition that it is still what was added: Withdrawn.
// If it has changed, or been touched, it is read and written once more, on the same
// condition. Package repair says why that converges; the explorer of package converge
// goes through it with every kind of writer.
//
// # What a death leaves
//
// Between the add and the second look the target may hold what has been deleted. If
// the source dies then, Run takes back what it has not verified. If the target fails,
// or Run is given up, the keys in question are in Error.Doubt, and are debt of the
// target. If the process dies, nobody knows them: whoever refills in its place must
// have the target forget everything first (flush_all). A further refill that adds is
// not enough, and would take an old item for a newer one.
package refill
