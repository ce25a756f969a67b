package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"

	"magent/server"
	"magent/server/admin"
	"magent/server/config"
	"magent/server/succession"
)

// operated is a proxy as its operators see it.
type operated struct {
	*server.Server
	leave   context.CancelFunc // ends the process as a signal does
	history *admin.History
}

// Failover is the server's; then the process ends, if it is to.
func (o operated) Failover(ctx context.Context, leave bool) error {
	err := o.Server.Failover(ctx)
	if err == nil && leave {
		o.leave()
	}
	return err
}

// Status is the server's, with the version that it does not know.
func (o operated) Status() admin.Status {
	s := o.Server.Status()
	s.Version = version
	return s
}

// Overview is the server's, with the same.
func (o operated) Overview() admin.Overview {
	all := o.Server.Overview()
	all.Version = version
	_, all.Events = o.history.Events(math.MaxUint64)
	return all
}

// Events are what the log has told of.
func (o operated) Events(after uint64) ([]admin.Event, uint64) { return o.history.Events(after) }

// noAdmin is the --admin of a magent that nobody can ask.
const noAdmin = "none"

// openAdmin opens the endpoint that --admin asks for, for the user who becomes, or takes it
// from given, where it is for the right user already; nil if
// there is to be none. Where nothing was asked for, one that cannot be opened is no more
// than worth a warning: who is not root has no right to the default, and never needed it.
func openAdmin(f *config.Flags, cfg *config.Config, who *identity, given *succession.Sockets) (ln net.Listener, warning string, err error) {
	where := f.Admin
	if where == "" {
		where = defaultAdmin(cfg)
	}
	if where == noAdmin {
		return nil, "", nil
	}
	if network, address, err := admin.Endpoint(where); err == nil {
		if ln := given.Take(network, address); ln != nil {
			return ln, "", nil
		}
	}
	ln, err = admin.Listen(where)
	if err == nil {
		if err = who.own(ln.Addr()); err == nil {
			return ln, "", nil
		}
		ln.Close()
	}
	if f.Admin != "" {
		return nil, "", err
	}
	return nil, fmt.Sprintf("nobody can ask this magent for its status: %v; --admin says where else, or none", err), nil
}

// openRemote opens the endpoint that --admin-listen asks for, or takes it from given; nil if
// it asks for none. It reads the token that is to be shown there and wherever else TCP leads
// to operators.
func openRemote(f *config.Flags, given *succession.Sockets) (ln net.Listener, token string, err error) {
	if f.AdminToken != "" {
		if token, err = admin.ReadToken(f.AdminToken); err != nil {
			return nil, "", fmt.Errorf("--admin-token-file: %w", err)
		}
	}
	if f.AdminListen == "" {
		return nil, token, nil
	}
	address, err := admin.TCPAddress(f.AdminListen, token)
	if err == nil {
		if ln = given.Take("tcp", address); ln == nil {
			ln, err = admin.ListenTCP(address)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("--admin-listen: %w", err)
	}
	return ln, token, nil
}

// defaultAdmin is the path that goes with the first TCP port.
func defaultAdmin(cfg *config.Config) string {
	for _, l := range cfg.Listen {
		if l.Network != "tcp" {
			continue
		}
		_, text, _ := net.SplitHostPort(l.Address) // as config has made it
		if port, err := strconv.Atoi(text); err == nil && port > 0 {
			return admin.DefaultPath(port)
		}
	}
	return noAdmin
}
