// Package repair makes a follower hold what the lead holds, for one key at a
// time, while anybody writes to both.
//
// Repair is the primitive: a step machine that is given the answers of the nodes
// and says what to send next. Queue decides which keys are repaired when. Nothing
// here does I/O, starts a goroutine or reads a clock; a Repair and a Queue belong
// to whoever drives them, one event loop as a rule. It imports codec, token and std.
//
// # Why it converges
//
// Every writer changes the lead first and the follower after it. A repair asks the
// follower for its version (T), reads the lead (R), and writes what it read to the
// follower on the condition that the version is still T's (W). Whatever changed at
// the lead after R reaches the follower after T: either between T and W, and W is
// refused, or after W, and replaces it. So W needs no second thought, but for two
// things that versions do not show, and for these the lead is looked at again (V):
//
//   - A follower that had no item at T may have got one and lost it before W:
//     nothing is all the same. W is then an add, and if the lead has moved, a
//     further W, guarded by the version that the add made, or a delete, follows.
//   - A touch changes the TTL and no version.
//
// An add need not be answered: what it made is then as little known as anything that a
// follower may have, and a repair that begins with T behind it finds that. So V alone is
// owed to it, and T, R and W if V does not find the lead as it was.
//
// A repair whose W is refused asks again from T. Refused twice, it is done: the
// writer that was second began its own T after the first one's write, hence after
// this repair began, and so it has read the lead late enough, or it is a plain set
// and will look at the lead itself. This holds because nobody applies a relative
// step to a follower: followers are only ever given states that the lead has had.
// It ends when the lead is lost and another proxy has the follower lead. So the lead
// is asked for a sign of life before the repair is done: what it answers, it answers
// after the second refusal. However hot a key, a repair takes two rounds.
//
// For the same reason one repair does for all who wish for one before it begins:
// each has changed the lead already. It does nothing for those who come later, for
// it may have read the lead. Queue sees to both.
package repair
