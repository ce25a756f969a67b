package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"time"

	"magent/server/config"
	"magent/server/secret"
	"magent/upstream"
	"magent/upstream/dial"
	"magent/upstream/sealed"
)

// openSecrets reads the files that say who may come in, and who this magent is to clients.
func (s *Server) openSecrets() (err error) {
	a := &s.cfg.Access
	if a.AuthFile != "" {
		if s.users, err = secret.OpenUsers(a.AuthFile); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(s.cfg.Listen, func(l config.Listen) bool { return l.TLS }) {
		s.serving, err = secret.OpenServing(secret.Serving{Cert: a.TLSCert, Key: a.TLSKey, ClientCA: a.ClientCA, ClientNames: a.ClientNames})
	}
	return err
}

// reread reads those of these files anew that have changed; it looks once a second at
// most. Who accepts a client calls it: so whoever comes a second after a change finds it
// done. What no longer can be read stays as it was.
func (s *Server) reread() {
	now := time.Now()
	look(s.log, s.users, now, s.cfg.Access.AuthFile)
	look(s.log, s.serving, now, s.cfg.Access.TLSCert)
}

// look looks at one, if there is one, and logs what has become of it. path is where it is, or
// the first of its files.
func look[T any](log *slog.Logger, f *secret.File[T], now time.Time, path string) {
	if f == nil {
		return
	}
	switch changed, err := f.Look(now); {
	case err != nil:
		log.Error("what was read before stays", "file", path, "cause", err.Error())
	case changed:
		log.Info("read again, as it has changed", "file", path)
	}
}

// entry is how the nodes of a pool are reached.
type entry struct {
	conf   *config.NodeAccess
	log    *slog.Logger
	login  *secret.File[secret.Login] // who this magent is to them; nil: they do not ask
	asking *secret.File[*tls.Config]  // how TLS is spoken with them; nil: it is not
	dialer dial.Dialer                // but for the name of the node
}

func newEntry(p *config.Pool, log *slog.Logger) (e entry, err error) {
	n := &p.Access
	e = entry{conf: n, log: log, dialer: dial.Dialer{Connect: p.ConnectTimeout, Answer: p.Timeout, Name: n.TLSName, Binary: n.Binary}}
	if n.AuthFile != "" {
		login, err := secret.OpenLogin(n.AuthFile)
		if err != nil {
			return e, err
		}
		e.login = login
		e.dialer.Login = func() (user, password string) {
			l := login.Get()
			return l.User, l.Password
		}
	}
	if n.TLS {
		if e.asking, err = secret.OpenAsking(secret.Asking{CA: n.TLSCA, Cert: n.TLSCert, Key: n.TLSKey}); err != nil {
			return e, err
		}
		e.dialer.TLS = e.asking.Get
	}
	return e, nil
}

// dial makes a connection to a node that is ready for requests. Files that have changed are
// read anew before, as by Server.reread.
func (e *entry) dial(ctx context.Context, n *upstream.Node) (net.Conn, error) {
	now := time.Now()
	d := e.dialer
	look(e.log, e.login, now, e.conf.AuthFile)
	look(e.log, e.asking, now, e.conf.TLSCA)
	if d.Name == "" {
		d.Name = n.Host
	}
	return d.Dial(ctx, n.Network, n.Address)
}

// target is n for who asks it beside the traffic.
func (e *entry) target(n *upstream.Node) dial.Target {
	return dial.Target{Network: n.Network, Address: n.Address, Connect: e.dialer.Connect,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return e.dial(ctx, n) }}
}

// handshakeHaste is how long a handshake takes in a local network, with what a busy machine
// adds to it.
const handshakeHaste = 50 * time.Millisecond

// shakeHands takes in a client that comes as said and is to speak TLS, when it does.
func (s *Server) shakeHands(nc net.Conn, as arrival) {
	s.shaking.Add(1)
	s.accepting.Add(1)
	go func() {
		defer s.accepting.Done()
		spareFor(handshakeHaste)
		defer s.shaking.Add(-1)
		nc.SetDeadline(time.Now().Add(s.times.shaking))
		stop := context.AfterFunc(s.welcoming, func() { nc.SetDeadline(time.Unix(1, 0)) })
		t := sealed.Server(nc, s.serving.Get())
		err := t.Handshake()
		if stop(); err != nil {
			s.unshaken.Add(1)
			s.log.Debug("client closed", "address", nc.RemoteAddr().String(), "cause", err.Error())
			s.doorman.leave(as.from)
			nc.Close()
			return
		}
		s.shaken.Add(1)
		as.tls = t
		s.seat(t.Detach(), as)
	}()
}
