//go:build invariants || race

package invariants

// Enabled says that checks run. It is a constant, so that a check behind it is
// not even compiled where it is false.
const Enabled = true
