package probe

import (
	"bytes"
	"net"
	"net/netip"
)

// Clients are the connections that a node has from clients, by the clients' addresses.
type Clients map[netip.AddrPort]bool

// Has reports whether the node has the connection whose address at this end is local.
func (c Clients) Has(local net.Addr) bool {
	a, ok := local.(*net.TCPAddr)
	return ok && c[plain(a.AddrPort())]
}

// plain is a as every node writes it: a socket for both families of IP writes an
// address of version 4 as one of version 6, and no memcached writes the zone.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// listing makes Clients of the answer to stats conns, which has for every connection
// and every listening socket, numbered by their file descriptors,
//
//	STAT 22:addr tcp6:[::1]:49226
//	STAT 22:listen_addr tcp6:[::1]:11211
//	STAT 22:state conn_read
//	STAT 22:secs_since_last_cmd 0
//
// The addr of a listening socket is its own, and its state conn_listening; there is
// no listen_addr before 1.5.17. The other kinds of addr are udp, udp6, unix, and ? for
// a client over a unix socket. (process_stats_conns in memcached.c.)
type listing struct {
	clients Clients
	fd      []byte         // whose addr came last
	addr    netip.AddrPort // and that, if it is one of TCP
}

// stat takes one line.
func (l *listing) stat(line []byte) {
	name, value, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("STAT ")), []byte(" "))
	fd, name, _ := bytes.Cut(name, []byte(":"))
	switch string(name) {
	case "addr":
		l.fd = append(l.fd[:0], fd...)
		l.addr = netip.AddrPort{}
		network, addr, _ := bytes.Cut(value, []byte(":"))
		if string(network) == "tcp" || string(network) == "tcp6" {
			l.addr, _ = netip.ParseAddrPort(string(addr)) // the zero value is no client's
		}
	case "state":
		if l.addr.IsValid() && bytes.Equal(fd, l.fd) && string(value) != "conn_listening" {
			l.clients[plain(l.addr)] = true
		}
		l.addr = netip.AddrPort{}
	}
}
