package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"magent/server"
	"magent/server/admin"
	"magent/server/config"
	"magent/upstream/memnode"
)

// demo is `magent demo`: two nodes in this process, a proxy before them, and
// somebody at a terminal. It runs on one goroutine but for the workload's.
type demo struct {
	port      int
	killEvery time.Duration // 0: never
	faults    [2]string     // scripts for the primary and the backup
	runFor    time.Duration // 0: until a signal
	nodeBytes int64

	*service
	dir    string           // has the admin socket
	nodes  [2]*memnode.Node // primary, backup
	load   *workload        // nil if no node is to fail
	screen *screen
	kills  int
	last   server.Snapshot
	lastAt time.Time
}

func newDemo() *cobra.Command {
	d := &demo{nodeBytes: 64 << 20}
	cmd := &cobra.Command{
		Use:   "demo [flags]",
		Short: "Try it: two built-in nodes and a proxy before them",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case d.port < 0 || d.port > 65535:
				return fmt.Errorf("--port %d is not a port: want 0 to 65535, 0 for any", d.port)
			case d.killEvery < 0 || d.runFor < 0:
				return errors.New("--kill-every and --for take durations above 0")
			}
			if err := d.checkFaults(); err != nil {
				return err
			}
			return d.run()
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.IntVarP(&d.port, "port", "p", 12000, "`port` of the proxy on 127.0.0.1, 0 for any")
	fs.DurationVar(&d.killEvery, "kill-every", 0, "kill the primary this often and restart it empty half a `period` later, under a small workload")
	fs.StringVar(&d.faults[0], "fault", "", "have the primary fail by this `script`, under the workload: see magent help faults")
	fs.StringVar(&d.faults[1], "fault-backup", "", "have the backup fail by this `script`")
	fs.DurationVar(&d.runFor, "for", 0, "end after this `duration`; default is to run until Ctrl-C")
	return cmd
}

// newFaults is the help topic of the language of --fault.
func newFaults() *cobra.Command {
	return &cobra.Command{Use: "faults", Short: "How a node of magent demo may fail", Long: memnode.Language}
}

// checkFaults puts the scripts into the form in which they are shown.
func (d *demo) checkFaults() error {
	for i, flag := range []string{"--fault", "--fault-backup"} {
		script, err := memnode.ParseScript(d.faults[i])
		if err != nil {
			return fmt.Errorf("%s: %w; see magent help faults", flag, err)
		}
		d.faults[i] = script.String()
	}
	return nil
}

// fails says whether any node is to.
func (d *demo) fails() bool { return d.killEvery > 0 || d.faults != [2]string{} }

func (d *demo) run() error {
	signal.Ignore(syscall.SIGPIPE)
	stop, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	if d.runFor > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(stop, d.runFor)
		defer cancel()
	}
	d.screen = newScreen(os.Stdout)
	if err := d.open(); err != nil {
		return err
	}
	defer d.close()
	if err := d.start(); err != nil {
		return err
	}
	d.banner()
	if d.fails() {
		d.load = startWorkload(d.address())
	}
	err := d.live(stop)
	release()
	if d.load != nil {
		d.load.stop()
	}
	d.screen.line("%s", d.status(time.Now()))
	return errors.Join(err, d.shutdown(), d.verdict())
}

// open starts the nodes and makes the proxy; close is for what it has opened.
func (d *demo) open() error {
	cfg, pool := config.Default(), config.DefaultPool()
	cfg.Loops = max(1, runtime.GOMAXPROCS(0)/2)
	cfg.MaxClients = 256 // they, their connections to the nodes and ours are far below any limit of files
	cfg.Listen = []config.Listen{{Network: "tcp", Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port))}}
	for i := range d.nodes {
		node, err := memnode.Start(memnode.Config{MaxBytes: d.nodeBytes, Fault: d.faults[i]})
		if err != nil {
			d.close()
			return err
		}
		d.nodes[i] = node
		n, err := config.ParseNode(node.Addr(), 0)
		if err != nil {
			d.close()
			return err
		}
		pool.Copies = append(pool.Copies, []config.Node{n})
	}
	cfg.Pools = []config.Pool{pool}
	// What a node does is on the live line, where log lines would tear it.
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	srv, err := server.New(cfg, log)
	if err != nil {
		d.close()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: choose another with --port", err)
		}
		return err
	}
	d.service = &service{srv: srv, cfg: cfg, log: log}
	if err := d.openAdmin(); err != nil {
		err = errors.Join(err, d.shutdown())
		d.close()
		return err
	}
	return nil
}

// openAdmin has the demo answer operators, at a path where anybody may try one.
func (d *demo) openAdmin() (err error) {
	if d.dir, err = os.MkdirTemp("", "magent-demo"); err != nil {
		return err
	}
	d.admin, err = admin.Listen(filepath.Join(d.dir, "admin"))
	return err
}

func (d *demo) close() {
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
	for _, n := range d.nodes {
		if n != nil {
			n.Close()
		}
	}
}

func (d *demo) address() string { return d.srv.Addrs()[0].String() }

const invitation = `magent %s: a proxy on %s
  primary  %s   (built in, 64 MiB)
  backup   %s   (built in, 64 MiB)

Type, in another terminal with bash:
  mc() ( exec 3<>/dev/tcp/127.0.0.1/$1 && printf '%%s\r\n' "${@:2}" quit >&3 && cat <&3 )
  mc %s 'set greeting 0 0 5' hello 'get greeting'
  mc %s 'get greeting'      # the backup holds it too
  %s status --admin %s

%s
Ctrl-C ends it.
`

func (d *demo) banner() {
	_, port, _ := net.SplitHostPort(d.address()) // the kernel's own text
	_, backupPort, _ := net.SplitHostPort(d.nodes[1].Addr())
	d.screen.text(fmt.Sprintf(invitation, version, d.address(), d.nodes[0].Addr(), d.nodes[1].Addr(),
		port, backupPort, os.Args[0], d.admin.Addr(), d.intent()))
}

// intent says what is going to happen.
func (d *demo) intent() string {
	if !d.fails() {
		return "See a failover: magent demo --kill-every 5s\n"
	}
	var b strings.Builder
	if d.killEvery > 0 {
		fmt.Fprintf(&b, "The primary is killed every %v and comes back empty %v later.\n", d.killEvery, d.killEvery/2)
	}
	for i, script := range d.faults {
		if script != "" {
			fmt.Fprintf(&b, "The %s fails by %s\n", roles[i], script)
		}
	}
	fmt.Fprintf(&b, "A workload of %d keys checks each answer: right is the last value acknowledged, a miss is\n"+
		"counted, and all else is a failure.\n", workers*keysEach)
	return b.String()
}

// roles is what the copies are called.
var roles = [2]string{"primary", "backup"}

// live keeps the line moving and the primary dying until stop or a fault.
func (d *demo) live(stop context.Context) error {
	d.lastAt = time.Now()
	refresh := time.NewTicker(d.screen.period)
	defer refresh.Stop()
	var strike <-chan time.Time // nil: never
	if d.killEvery > 0 {
		t := time.NewTicker(max(d.killEvery/2, time.Millisecond))
		defer t.Stop()
		strike = t.C
	}
	for halves := 1; ; {
		select {
		case <-stop.Done():
			return nil
		case <-d.srv.Done():
			return d.ended()
		case now := <-refresh.C:
			d.screen.update("%s", d.status(now))
		case <-strike:
			if err := d.strike(halves%2 == 0); err != nil {
				return err
			}
			halves++
		}
	}
}

// strike kills the primary, or brings it back.
func (d *demo) strike(kill bool) error {
	switch {
	case kill:
		d.kills++
		d.nodes[0].Kill()
		d.screen.line("-- killed the primary %s", d.nodes[0].Addr())
	case d.kills > 0:
		if err := d.nodes[0].Restart(); err != nil {
			return err
		}
		d.screen.line("-- restarted the primary %s, empty", d.nodes[0].Addr())
	}
	return nil
}

// status is the live line: traffic since the last one, hits, health, workload.
func (d *demo) status(now time.Time) string {
	s := d.srv.Snapshot()
	seconds := now.Sub(d.lastAt).Seconds()
	rate := 0.0
	if seconds > 0 {
		rate = float64(s.Requests()-d.last.Requests()) / seconds
	}
	hits, misses := s.Hits-d.last.Hits, s.Misses-d.last.Misses
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f req/s  hits ", rate)
	if hits+misses == 0 {
		b.WriteString("-")
	} else {
		fmt.Fprintf(&b, "%.1f%%", 100*float64(hits)/float64(hits+misses))
	}
	fmt.Fprintf(&b, "  clients %d", s.Sessions)
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "  %s %s", roles[n.Copy], n.State)
		if n.Cause != "" && n.State != "up" {
			fmt.Fprintf(&b, " (%s)", n.Cause)
		}
		if d.faults[n.Copy] != "" {
			fmt.Fprintf(&b, ", %d faults", d.nodes[n.Copy].Stats().Faults)
		}
	}
	if d.load != nil {
		b.WriteString("  | " + d.load.report())
	}
	d.last, d.lastAt = s, now
	return b.String()
}

// verdict is the workload's, said in words; an error if anything was lost.
func (d *demo) verdict() error {
	if d.load == nil {
		return nil
	}
	var did []string
	if d.killEvery > 0 {
		did = append(did, fmt.Sprintf("%d kills", d.kills))
	}
	for i, script := range d.faults {
		if script != "" {
			did = append(did, fmt.Sprintf("%d faults of the %s", d.nodes[i].Stats().Faults, roles[i]))
		}
	}
	d.screen.line("%s; %s", strings.Join(did, ", "), d.load.report())
	if n := d.load.misses.Load(); n > 0 {
		d.screen.line("The %d misses are keys that the node asked said it had not: one that restarts comes back empty.", n)
	}
	if d.load.lost() {
		return errors.New("the workload saw errors or values that are not the last acknowledged ones")
	}
	return nil
}

// screen writes lines that stay, and one that moves: in place on a terminal, and
// every few seconds in a pipe.
type screen struct {
	out      *os.File
	terminal bool
	period   time.Duration
}

func newScreen(out *os.File) *screen {
	if _, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS); err != nil {
		return &screen{out: out, period: 2 * time.Second}
	}
	return &screen{out: out, terminal: true, period: 500 * time.Millisecond}
}

const (
	clearLine = "\r\x1b[K"
	noWrap    = "\x1b[?7l" // a narrow terminal cuts the line instead of folding it
	wrap      = "\x1b[?7h"
)

func (s *screen) text(text string) { fmt.Fprint(s.out, text) }

func (s *screen) line(format string, args ...any) {
	if s.terminal {
		s.text(clearLine)
	}
	s.text(fmt.Sprintf(format, args...) + "\n")
}

func (s *screen) update(format string, args ...any) {
	if !s.terminal {
		s.line(format, args...)
		return
	}
	s.text(clearLine + noWrap + fmt.Sprintf(format, args...) + wrap)
}
