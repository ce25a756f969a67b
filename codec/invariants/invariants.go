// Package invariants holds checks that run in tests and cost nothing in release
// builds: Enabled is a constant, true under the build tag invariants and under
// the race detector, and false otherwise. What is checked is a mistake of ours,
// never of a client or a node, and ends in a panic.
//
// It keeps no state; any goroutine may call it. It imports std only.
package invariants

// garbage is what a poisoned byte reads as: no letter, digit, space or newline,
// so that a parser which meets it goes visibly wrong.
const garbage = 0xDB

// Check panics with msg if ok is false. An argument that is dear to compute
// belongs behind an if Enabled.
func Check(ok bool, msg string) {
	if Enabled && !ok {
		panic("invariant broken: " + msg)
	}
}

// Poison overwrites b, which its owner is done with: a view of it that was kept
// too long then shows in a test instead of in production.
func Poison(b []byte) {
	if !Enabled {
		return
	}
	for i := range b {
		b[i] = garbage
	}
}
