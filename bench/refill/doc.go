// Package refill measures what it takes to fill a node that came back empty: how fast a
// proxy does it while nothing else goes on, beside a copy that verifies nothing, and what
// clients see of it under load.
//
//	Run → pair (two memcacheds, and a proxy) → process
//	    → Copy, the yardstick
//	    → idle: kill -9, restart, until the proxy calls the node up → stats
//	    → loaded: the same under load → load, failover.Analyse
//	    → Set → table, bounds, raw file
//
// Everything runs on the caller's goroutine, but for what Copy asks, what waits for the
// node to hold all keys, and the steps under load, which have one each. The package
// imports, of bench, failover, keys, load, meter, process, stats and wire.
package refill
