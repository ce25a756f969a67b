// Package fleet is what several magents in front of the same nodes agree on when one
// of the nodes has come back cold: which of them refills it, and that it is warm. They
// need nothing for that but the nodes themselves.
//
// # Keys
//
// Two kinds of keys lie among those of the users. Like all of magent's own they begin
// with Prefix, whatever clients may think of it, and are of no use to anybody else. They
// can be looked at, and deleted, by hand.
//
//	magent:refill:ADDRESS:LIFE   the lease, on a node of another copy, a source. ADDRESS
//	                             is the node to be refilled, or # and a hash if it is
//	                             long; LIFE, 16 hex digits, the life of its process. The
//	                             value is the id of the magent that refills it.
//	magent:warm                  the marker, on the node that is refilled. The value is
//	                             "LIFE warm by ID", or "LIFE begun by ID" before.
//
// The lease is taken by adding it (ms ME), renewed on the condition that it is the
// version last seen (ms C), and given back in the same way (md C); it ends by its TTL
// when its holder has died. The marker stays for as long as the node holds it.
//
// # What they promise, and what not
//
// There is one holder at a time as far as one memcached can promise it. One that is
// restarted, or evicts the lease, lets another magent in, and so does a source that one
// magent reaches and another does not. Then two refill at a time, which costs
// work and nothing else, for a refill only adds. A holder whose lease is another's, or
// gone, or not confirmed in time, stops.
//
// A marker counts for the life that it names. What a holder writes too late, to the
// process after the one that it has refilled, is nothing: a marker is read and written
// with the stats of the same process. A holder marks the node when it begins, too, and
// may only say "warm" over that very mark: a node that was flushed in between is refilled
// again. A node may evict its marker. Magents that have seen it remember; one that starts
// then has the node refilled again. One that evicts the mark of a beginning again and
// again is too small for its keys, and is called warm all the same; so is one that stores
// no marker.
//
// Machine is pure, without I/O or a clock; a Member carries it out and belongs to one
// goroutine. The package imports std and upstream/probe.
package fleet
