// Package address tests what the kit of `magent ha init` makes of two machines: each has
// a magent, a memcached, a keepalived and a monit, all of them real, and is a machine of
// namespaces; a client beside them knows the virtual address alone. How long it is
// without service is measured, and held against what is promised.
package address
