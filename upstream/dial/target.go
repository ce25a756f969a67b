package dial

import (
	"context"
	"net"
	"time"
)

// Target is a node for who asks it beside the traffic, over connections of his own.
type Target struct {
	Network, Address string        // as net.Dial takes them
	Connect          time.Duration // for a connection to be made

	// Dial makes a connection that is ready for requests, within Connect or a bound of its
	// own; nil is one of net's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Conn makes a connection.
func (t *Target) Conn(ctx context.Context) (net.Conn, error) {
	if t.Dial != nil {
		return t.Dial(ctx, t.Network, t.Address)
	}
	d := net.Dialer{Timeout: t.Connect}
	return d.DialContext(ctx, t.Network, t.Address)
}
