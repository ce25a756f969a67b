// Package e2e judges the whole proxy from outside: real clients' bytes go in at
// one end, real memcached processes answer at the other, and memcached itself,
// asked directly, says what is right. It owns the transcripts in testdata.
//
// It imports server only through harness, and memnode for the faults that a real
// memcached cannot be told to have.
package e2e
