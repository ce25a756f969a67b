package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"magent/server/config"
	"magent/server/secret"
	"magent/server/succession"
	"magent/upstream/dial"
	"magent/upstream/fleet"
)

// Server is one proxy.
type Server struct {
	cfg       config.Config
	log       *slog.Logger
	pools     []*poolServer               // as in cfg
	users     *secret.File[*secret.Users] // who may come in; nil: anybody
	serving   *secret.File[*tls.Config]   // how TLS is spoken with clients; nil: it is not
	listeners []net.Listener
	loops     []*loop
	engine    *gnet.Client // the event loops; it dials nothing itself
	started   time.Time
	id        string          // this magent's among all in front of the same nodes
	times     times           // immutable
	ctx       context.Context // of what is done about nodes beside their probers; ends with Shutdown
	cancel    context.CancelFunc

	drainFirst []string // nodes that are drained from the start

	moves     moves
	readiness *readiness
	counting  chan struct{}                  // has one while it is counted for Top
	moving    sync.Mutex                     // held while the addresses are given up
	succeeded atomic.Bool                    // another process is to take this one's place: see Instruct
	leaving   context.Context                // over when Leave begins
	leave     context.CancelFunc             // has it be
	welcoming context.Context                // over when no more clients are taken in
	unwelcome context.CancelFunc             // has it be
	here      func(netip.Addr) (bool, error) // reports whether an address is on this machine

	doorman *doorman
	loses   func() uint64 // see LogLoses

	accepted, refused atomic.Uint64
	shaken, unshaken  atomic.Uint64 // handshakes of TLS with clients, and those that failed
	shaking           atomic.Int64  // those under way
	running           atomic.Bool
	accepting         sync.WaitGroup
	enrolling         atomic.Int64  // clients that were accepted and no loop has yet
	stopping          chan struct{} // closed when Shutdown begins
	wake              chan struct{} // has one when a loop that was idle wants ticks
	stop              sync.Once
	done              chan struct{} // closed when Shutdown has ended the loops
	died              chan struct{} // closed when a loop has ended by itself
	death             sync.Once
	err               error // why; written before died is closed
}

// New makes a server of cfg: node names are resolved and every address is
// listened on, but no client is served before Start. Its errors are one line each.
func New(cfg config.Config, log *slog.Logger) (*Server, error) {
	return newServer(cfg, log, defaultTimes, nil)
}

// NewOn is New on sockets that are open already, where there is one for an address. It
// takes those out of given.
func NewOn(given *succession.Sockets, cfg config.Config, log *slog.Logger) (*Server, error) {
	return newServer(cfg, log, defaultTimes, given)
}

func newServer(cfg config.Config, log *slog.Logger, t times, given *succession.Sockets) (*Server, error) {
	if cfg.Loops <= 0 {
		cfg.Loops = max(1, runtime.NumCPU()/2)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, started: time.Now(), stopping: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}), died: make(chan struct{}), id: fleet.NewID(), times: t, counting: make(chan struct{}, 1)}
	s.doorman = newDoorman(cfg.Clients, func() time.Duration { return time.Since(s.started) })
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.leaving, s.leave = context.WithCancel(s.ctx)
	s.welcoming, s.unwelcome = context.WithCancel(s.ctx)
	for i := range cfg.Pools {
		p, err := newPoolServer(s, i)
		if err != nil {
			return nil, err
		}
		s.pools = append(s.pools, p)
	}
	if err := s.unshared(); err != nil {
		return nil, err
	}
	if err := s.openSecrets(); err != nil {
		return nil, err
	}
	for _, l := range cfg.Listen {
		ln, err := listen(l, given)
		if err != nil {
			s.closeListeners()
			return nil, err
		}
		s.listeners = append(s.listeners, ln)
	}
	if given != nil {
		// Who had a socket before may have died while it was hushed. One that knows no such
		// option was not.
		_ = s.onTCP(func(fd int, _ *net.TCPAddr) error { return hopless(fd, false) })
	}
	for i := range cfg.Loops {
		l := newLoop(s)
		l.index = i
		s.loops = append(s.loops, l)
	}
	s.here = onInterfaces
	s.readiness = newReadiness(s)
	return s, nil
}

// Addrs is what is listened on, with the ports that port 0 became.
func (s *Server) Addrs() (addrs []net.Addr) {
	for _, ln := range s.listeners {
		addrs = append(addrs, ln.Addr())
	}
	return addrs
}

// Start begins to serve, in the background.
func (s *Server) Start() error {
	var err error
	s.engine, err = gnet.NewClient(&handler{}, gnet.WithNumEventLoop(len(s.loops)),
		gnet.WithReadBufferCap(128<<10), gnet.WithWriteBufferCap(64<<10), gnet.WithLogger(quiet{s.log}))
	if err != nil {
		return err
	}
	if err := s.engine.Start(); err != nil {
		return err
	}
	if err := s.anchor(); err != nil {
		s.engine.Stop()
		s.engine = nil
		return err
	}
	s.running.Store(true)
	for _, l := range s.loops {
		l.do(func() {
			for _, lane := range l.lanes {
				for i := range lane.pool.Nodes {
					lane.group.Connect(i)
				}
			}
		})
	}
	go s.clock()
	go s.readiness.watch()
	if s.cfg.Clients.IdleTimeout > 0 {
		go s.watchIdle()
	}
	var convened sync.WaitGroup
	for _, p := range s.pools {
		if !p.pool.Alone() {
			convened.Go(p.convene)
		}
	}
	convened.Wait()
	s.drainAsBefore()
	for _, p := range s.pools {
		p.hold()
	}
	for _, p := range s.pools {
		if f := p.former.Load(); f != nil {
			f.pool.Monitor.Start()
		}
		p.pool.Monitor.Start()
	}
	for i, ln := range s.listeners {
		s.accepting.Add(1)
		go s.accept(ln, i)
	}
	return nil
}

// anchor gets hold of gnet's loops, which it does not list: it opens a socket
// pair for each, and as gnet gives a connection to the loop that has fewest,
// each loop gets one.
func (s *Server) anchor() error {
	for _, l := range s.loops {
		near, far, err := dial.Pair()
		if err != nil {
			return err
		}
		a := &anchor{srv: s, opened: make(chan gnet.Conn, 1)}
		if _, err := s.engine.EnrollContext(near, a); err != nil {
			far.Close()
			return err
		}
		c := <-a.opened
		l.el, l.far = c.EventLoop(), far
		if l.poll, err = findPoller(c.Fd()); err != nil {
			s.log.Warn("a client that sends too fast will be closed, not slowed down", "cause", err.Error())
		}
	}
	return nil
}

// clock ticks the loops that have something to wait for.
func (s *Server) clock() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-t.C:
		}
		busy := false
		for _, l := range s.loops {
			if !l.any.busy.Load() {
				continue
			}
			busy = true
			if l.any.ticking.CompareAndSwap(false, true) {
				l.el.Execute(context.Background(), tickTask{l})
			}
		}
		if !busy {
			select {
			case <-s.done:
				return
			case <-s.wake:
			}
		}
		t.Reset(s.loops[0].beat())
	}
}

// Shutdown stops accepting, lets what is in flight finish until ctx is done, and
// closes everything. The error is ctx's if it came to that.
func (s *Server) Shutdown(ctx context.Context) error { return s.end(ctx, nil) }

// end is Shutdown, or Yield if there is a successor.
func (s *Server) end(ctx context.Context, successor *succession.Link) (err error) {
	s.stop.Do(func() {
		close(s.stopping)
		s.unwelcome()
		s.closeListeners()
		s.accepting.Wait()
		_ = waitFor(ctx, func() bool { return s.enrolling.Load() == 0 }) // a loop that has ended takes nobody
		ran := s.running.Load()
		if ran {
			err = s.drain(ctx, successor)
			s.closeGroups()
		}
		s.running.Store(false)
		for _, p := range s.pools {
			p.pool.Monitor.Close()
			if f := p.former.Load(); f != nil && ran { // else there are no loops
				p.forget(f, "it is stopping")
			}
		}
		s.cancel()
		s.moves.telling.Wait()
		for _, k := range s.keepers() {
			k.rest()
		}
		if successor != nil {
			err = errors.Join(err, s.bequeath(successor))
		}
		for _, k := range s.keepers() {
			k.close()
		}
		close(s.done)
		if s.engine != nil {
			err = errors.Join(err, s.engine.Stop())
		}
		for _, l := range s.loops {
			if l.far != nil {
				l.far.Close()
			}
		}
	})
	return err
}

// drain closes clients at their next boundaries, or gives them to the successor, and waits
// for the last, and a little for what followers still have to be told.
func (s *Server) drain(ctx context.Context, successor *succession.Link) error {
	if successor != nil {
		defer s.giveAway(successor)()
	} else {
		for _, l := range s.loops {
			l.do(l.drain)
		}
	}
	if err := waitFor(ctx, func() bool { return s.clients() == 0 }); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	_ = waitFor(patience, func() bool {
		var working atomic.Bool
		err := s.onLoops(patience, func(l *loop) {
			if l.working() {
				working.Store(true)
			}
		})
		return err != nil || !working.Load() // a loop that has ended does nothing any more
	})
	return ctx.Err()
}

// waitFor waits until done says so; the error is ctx's if it comes first.
func waitFor(ctx context.Context, done func() bool) error { return poll(ctx, tick, done) }

// poll is waitFor, looking every so often.
func poll(ctx context.Context, every time.Duration, done func() bool) error {
	poll := time.NewTicker(every)
	defer poll.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

// lastWords is how long the loops may take to tell the nodes, and then to fail, what
// is in flight.
const lastWords = time.Second

// closeGroups fails what is in flight, which a loop that lives does at once, even
// when the time for a shutdown is over. One that has ended never will.
func (s *Server) closeGroups() {
	patience, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	for _, l := range s.loops {
		closed := make(chan struct{})
		if l.do(func() { l.close(); close(closed) }) != nil {
			continue
		}
		select {
		case <-closed:
		case <-s.died:
		case <-patience.Done():
		}
	}
}

// drain has every session part, those included that are still to come.
func (l *loop) drain() {
	l.draining = true
	for s := range l.sessions {
		s.part()
	}
}

func (s *Server) closeListeners() {
	for _, ln := range s.listeners {
		ln.Close()
	}
}

// ended notes that a loop has closed its anchor, which it does when it ends.
func (s *Server) ended(err error) {
	select {
	case <-s.stopping:
		return
	default:
	}
	s.death.Do(func() {
		s.err = errors.Join(errors.New("an event loop ended"), err)
		close(s.died)
	})
}

// Done is closed when the server can serve no longer although nobody shut it
// down; Err says why.
func (s *Server) Done() <-chan struct{} { return s.died }

// Err is nil until Done is closed.
func (s *Server) Err() error {
	select {
	case <-s.died:
		return s.err
	default:
		return nil
	}
}

// quiet passes gnet's warnings and errors on and drops the rest.
type quiet struct{ log *slog.Logger }

func (q quiet) Debugf(string, ...any)     {}
func (q quiet) Infof(string, ...any)      {}
func (q quiet) Warnf(f string, a ...any)  { q.log.Debug("gnet: " + fmt.Sprintf(f, a...)) }
func (q quiet) Errorf(f string, a ...any) { q.log.Warn("gnet: " + fmt.Sprintf(f, a...)) }
func (q quiet) Fatalf(f string, a ...any) { q.log.Error("gnet: " + fmt.Sprintf(f, a...)) }
