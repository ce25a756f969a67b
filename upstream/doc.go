// Package upstream speaks to memcached nodes: the nodes and their copies (Pool),
// and one event loop's connections to them (Group, Conn) with the requests in
// flight on each.
//
// A Group and its Conns belong to one event loop and are used by no other
// goroutine. Nothing here blocks, sleeps, or knows about gnet: a Conn writes to a
// Wire, who dials is told so by a Reactor, and time is what Limits has for a clock.
// A Pool is immutable, but for what is learnt of its Nodes, and shared.
// It imports codec, its own sub-packages and std.
package upstream
