// Package server is the proxy: it accepts clients, and on each event loop turns
// their commands into requests to nodes and the answers into replies.
//
// Everything of a loop (its sessions, its slots, its lanes, each of which has the
// upstream.Group of one pool, its counters) is touched by that loop's goroutine alone.
// Loops share the pools, which are immutable, and their health tables, which are atomic. gnet is imported here and
// nowhere else of the data path: sessions and connections see a wire.
// It imports upstream, codec, config and gnet.
package server
