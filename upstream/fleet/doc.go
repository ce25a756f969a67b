// Package fleet is what several magents in front of the same nodes agree on when one
// of the nodes has come back. If it is cold: which of them refills it, that it is warm,
// and from which moment on. If it has kept its memory: who still owes it writes, and from
// which moment on nobody does. They need nothing for that but the nodes themselves.
//
// # Keys
//
// Three kinds of keys lie among those of the users. Like all of magent's own they begin
// with Prefix, whatever clients may think of it, and are of no use to anybody else. They
// can be looked at, and deleted, by hand.
//
//	magent:refill:ADDRESS:LIFE   the lease, on a node of another copy, a source. ADDRESS
//	                             is the node to be refilled, or # and a hash if it is
//	                             long; LIFE, 16 hex digits, the life of its process. The
//	                             value is the ID of the magent that refills it.
//	magent:warm                  the marker, on the node that is refilled. The value is
//	                             "LIFE warm at UNIXMILLIS by ID", or "LIFE begun by ID"
//	                             before.
//	magent:debt:ADDRESS          the list of those that owe the node writes, on a source.
//	                             The value is "ID=N ID=N ...", in which each magent
//	                             counts its N up when it renews, or, when the last has
//	                             left, "settled at UNIXMILLIS"; and behind either
//	                             "ID=open ID=open ..." of those whose writes do not wait
//	                             yet for the moment.
//
// The lease is taken by adding it (ms ME), renewed on the condition that it is the
// version last seen (ms C), and given back in the same way (md C); it ends by its TTL
// when its holder has died. The marker stays for as long as the node holds it. Whoever
// refills a node writes both markers on the condition that what is there is what it has
// seen. Vouch and Expect write one only where there is none of the same life, Accept also
// over one that says begun. Forsake writes it over anything, in one request with
// flush_all, which takes what came before it, and nothing that comes behind it, also
// within the same second. The list is changed on the condition that it is the version that was read (ms ME, ms C), and lives for a day from
// its last change; it is one line of 64 KiB at most.
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
// may only say "warm" over that very mark: a node that was flushed in between, or
// forsaken, is refilled again. One that begins where another had begun, and not
// finished, has the node forsaken first: what was copied there, and not verified, may
// be old. Whoever is the first to see that a node has come back empty marks that, too: for
// the others it is not empty any more, as that one has begun to write it. A node may evict its marker. Magents that have seen it remember; one that
// starts then has the node refilled again. One that evicts the mark of a beginning
// again and again is too small for its keys, and is called warm all the same; so is
// one that stores no marker. In these two cases one magent may hand over before
// another knows.
//
// The moment lies Times.Lead ahead when the node is marked, which is longer than it takes
// the others to look, and so all hand over at once: the writes of a key have one lead at
// a time. Clocks differ, and a magent may be held up just then: so each says in the list that
// its writes will wait, and that they do, and nobody's go on before those of all wait. Where
// that list cannot be had, or one of them does not say so for as long as a node may take to
// answer, the writes of a key may have two leads: for as long as the wall clocks differ, which is
// some milliseconds with NTP, or as that one is held up. Whoever comes when the moment has
// passed hands over at once. A moment that is further off than Lead is of a clock that is
// wrong, and is taken for one that is as far off as Lead.
//
// A magent stands in the list from when it takes the node for down until it has made up
// for the writes that it has skipped since, and nobody reads the node before the list is
// settled. That is as good as the list: a magent that finds the node down later than the
// others, or reaches no source, is not in it when they look. Magents that ask two sources,
// as one of them does not reach the first, have two lists. Entries that are lost with
// their source, or are evicted or flushed, are there again when their magents renew, and
// those who knew of the list wait for that. One that is not renewed is of a magent that
// has died, or has stood still for that long: what it has skipped is known to nobody, the
// node is forsaken on its account, and refilled. An entry that was left behind costs at
// worst such a refill.
//
// Machine is pure, without I/O or a clock; a Member carries it out. A Member, a Ledger,
// and a Prober that is handed to Look, Vouch or Forsake belong to one goroutine. The
// package imports std and upstream/probe.
package fleet
