package dial

import (
	"context"
	"net"
	"time"
)

// Patient is a connection of which a Read fails when the node has been silent for Silence,
// and when Ctx ends, if whoever ends it sets a read deadline that is over.
type Patient struct {
	net.Conn
	Ctx     context.Context
	Silence time.Duration
}

func (p *Patient) Read(b []byte) (int, error) {
	p.SetReadDeadline(time.Now().Add(p.Silence))
	if err := p.Ctx.Err(); err != nil { // what interrupts it may have come before the deadline
		return 0, err
	}
	return p.Conn.Read(b)
}
