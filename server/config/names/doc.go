// Package names looks up what names of nodes stand for: an address each, or, of dns:NAME:PORT
// and srv:NAME, several nodes; and for how long that holds.
//
//	10.0.0.1:11211                         itself
//	cache-1.example.com:11211              one node. Placement goes by the name, so that it
//	                                       stays where it is when its address changes
//	dns:cache.example.com:11211            a node for each address, in their order
//	srv:_memcache._tcp.example.com         a node for each target of the lowest priority, at
//	                                       its port, in their order
//
// The file of hosts is looked into first, then DNS is asked, by way of the servers and the search
// list of resolv.conf, for its times to live; what neither knows the system's resolver may.
// A Resolver belongs to one goroutine, which it keeps waiting. The package imports std, the DNS
// library and server/config.
package names
