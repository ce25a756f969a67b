package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/stats"
	"magent/server/admin"
	"magent/tools/deploy"
)

// gatherKeepalived asks the programs of this machine.
func gatherKeepalived(ctx context.Context, f *deploy.Facts) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if _, err := os.Stat(f.Conf); err == nil {
		f.ConfThere = true
	}
	// Debian keeps it where the path of a user does not look.
	program, err := exec.LookPath("keepalived")
	if err != nil {
		program = "/usr/sbin/keepalived"
	}
	if out, err := exec.CommandContext(ctx, program, "--version").CombinedOutput(); err == nil {
		f.Version = keepalivedVersion(string(out))
	}
	if f.Version != "" && f.ConfThere {
		out, err := exec.CommandContext(ctx, program, "-t", "-l", "-f", f.Conf).CombinedOutput()
		if err != nil {
			first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			f.ConfFault = strings.TrimSpace(first + " (" + err.Error() + ")")
		}
	}
	f.Running = runs("/run/keepalived.pid")
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		f.Systemd = true
		for _, unit := range []string{"magent", "keepalived"} {
			if exec.CommandContext(ctx, "systemctl", "--quiet", "is-enabled", unit).Run() != nil {
				f.Disabled = append(f.Disabled, unit)
			}
		}
	}
}

// keepalivedVersion finds 2.2.7 in "Keepalived v2.2.7 (01/16,2022)".
func keepalivedVersion(text string) string {
	for word := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(word, "v"); ok && strings.Contains(v, ".") {
			return v
		}
	}
	return "unknown"
}

// runs reports whether the process of a pid file does.
func runs(pidFile string) bool {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// gatherNetwork looks at the interface, the way to the peer, and the kernel's settings.
func gatherNetwork(ctx context.Context, f *deploy.Facts) {
	if f.Interface != "" {
		if i, err := net.InterfaceByName(f.Interface); err == nil {
			f.Link = &deploy.Link{Up: i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning != 0, Addrs: addresses(i)}
		}
		f.RPFilter = sysctl(f.Interface, "rp_filter")
	}
	f.ARPIgnore, f.ARPSource = sysctl("all", "arp_ignore"), sysctl("all", "arp_announce")
	all, _ := net.Interfaces() // none are found where there are none
	for _, i := range all {
		for _, a := range addresses(&i) {
			if slices.ContainsFunc(f.VIPs, func(v netip.Prefix) bool { return v.Addr() == a.Addr() }) {
				f.Here = append(f.Here, a.Addr())
			}
		}
	}
	if f.Peer.IsValid() {
		if own, err := sourceTowards(f.Peer); err == nil {
			f.Source = own
			for _, i := range all {
				if slices.ContainsFunc(addresses(&i), func(p netip.Prefix) bool { return p.Addr() == own }) {
					f.PeerWay = i.Name
				}
			}
		}
	}
	for _, v := range f.VIPs {
		if err := canListen(ctx, v.Addr(), 0); err != nil && f.BindFault == "" {
			f.BindFault = err.Error()
		}
	}
	if len(f.VIPs) > 0 {
		f.PortTaken = errors.Is(canListen(ctx, f.VIPs[0].Addr(), f.Port), syscall.EADDRINUSE)
	}
}

// addresses is those of an interface.
func addresses(i *net.Interface) (out []netip.Prefix) {
	all, _ := i.Addrs() // of one that has just gone there are none
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// sysctl is a number in net.ipv4.conf: the kernel goes by the greater of that of the interface
// that something comes in or leaves by and that of all (ip-sysctl.rst of Linux, of
// rp_filter, arp_ignore and arp_announce). 0 if it cannot be read.
func sysctl(netDevice, name string) int {
	most := 0
	for _, of := range []string{"all", netDevice} {
		if text, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", of, name)); err == nil {
			n, _ := strconv.Atoi(strings.TrimSpace(string(text))) // the kernel writes a number
			most = max(most, n)
		}
	}
	return most
}

// canListen listens as magent does: on an address that may be elsewhere.
func canListen(ctx context.Context, a netip.Addr, port int) error {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		e := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(e, err)
	}}
	ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(a, uint16(port)).String())
	if err != nil {
		return err
	}
	return ln.Close()
}

// gatherMagent asks the magent of this machine.
func gatherMagent(ctx context.Context, f *deploy.Facts) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	c, err := admin.NewClient(f.Admin)
	if err != nil {
		f.AdminFault = err.Error()
		return
	}
	s, err := c.Status(ctx)
	if err != nil {
		f.AdminFault = err.Error()
		return
	}
	if !s.Ready.Ready {
		f.NotReady = s.Ready.Why(false)
	}
	for _, n := range s.Nodes {
		f.Nodes = append(f.Nodes, fmt.Sprintf("%s (copy %d)", n.Name, n.Copy))
	}
	if pid := whoListens(f.Admin); pid > 0 {
		f.OpenFiles, f.FileLimit = filesOf(pid)
	}
}

// whoListens is the process that listens on a socket file; 0 if that cannot be told.
func whoListens(path string) int {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 0
	}
	defer c.Close()
	rc, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = rc.Control(func(fd uintptr) { // of an open connection
		if who, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(who.Pid)
		}
	})
	return pid
}

// filesOf is how many files a process has open, and how many it may; 0 if that cannot be
// told.
func filesOf(pid int) (open, limit int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	all, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return 0, 0
	}
	text, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			limit, _ = strconv.Atoi(strings.Fields(rest)[0]) // which is never unlimited
		}
	}
	return len(all), limit
}

// gatherPeer asks the magent of the other machine, and whoever has the address.
func gatherPeer(ctx context.Context, f *deploy.Facts) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if f.Peer.IsValid() {
		nodes, err := nodesAt(ctx, netip.AddrPortFrom(f.Peer, uint16(f.Port)).String())
		if f.PeerNodes = nodes; err != nil {
			f.PeerFault = err.Error()
		}
	}
	if len(f.VIPs) > 0 && len(f.Here) == 0 {
		c, err := stats.Dial(ctx, netip.AddrPortFrom(f.VIPs[0].Addr(), uint16(f.Port)).String())
		if err == nil {
			defer c.Close()
			_, err = c.Ask("proxy")
		}
		f.VIPAnswers = err == nil
	}
}

// nodesAt asks the magent that serves clients at addr for its nodes, in its order.
func nodesAt(ctx context.Context, addr string) (nodes []string, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if until, ok := ctx.Deadline(); ok {
		c.SetDeadline(until)
	}
	if _, err := c.Write([]byte("stats nodes\r\n")); err != nil {
		return nil, err
	}
	in := bufio.NewScanner(c)
	for in.Scan() {
		stat, is := strings.CutPrefix(in.Text(), "STAT ")
		if !is { // it is END, or an error
			break
		}
		if name, copied, ok := strings.Cut(stat, ":copy "); ok {
			nodes = append(nodes, fmt.Sprintf("%s (copy %s)", name, copied))
		}
	}
	if len(nodes) == 0 {
		return nil, errors.Join(errors.New("it does not say its nodes as a magent does"), in.Err())
	}
	return nodes, nil
}

// protocolVRRP is its number (RFC 5798, section 5.1.1.4).
const protocolVRRP = "112"

// gatherAdvert listens for an advert of the other machine, where one is due.
func gatherAdvert(f *deploy.Facts) {
	if len(f.Here) > 0 || len(f.VIPs) == 0 {
		return
	}
	network, anywhere := "ip4:"+protocolVRRP, "0.0.0.0"
	if f.VIPs[0].Addr().Is6() {
		network, anywhere = "ip6:"+protocolVRRP, "::"
	}
	c, err := net.ListenPacket(network, anywhere)
	if err != nil {
		f.AdvertFault = "nobody but root can listen for them: " + err.Error()
		return
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(checkPatience))
	packet := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(packet)
		if err != nil {
			return
		}
		ip, ok := from.(*net.IPAddr)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(ip.IP) // of 4 or 16 bytes
		if a, ok := parseAdvert(packet[:n], f.VIPs[0].Addr().Is6()); ok && addr.Unmap() != f.Source {
			a.From = addr.Unmap()
			f.Advert = &a
			return
		}
	}
}

// parseAdvert reads an advert of VRRPv3 (RFC 5798, section 5.1).
func parseAdvert(b []byte, six bool) (a deploy.Advert, ok bool) {
	const header, versionAndType = 8, 0x31
	size := 4
	if six {
		size = 16
	}
	if len(b) < header || b[0] != versionAndType || len(b) < header+int(b[3])*size {
		return a, false
	}
	a.RouterID = int(b[1])
	for i := range int(b[3]) {
		addr, _ := netip.AddrFromSlice(b[header+i*size : header+(i+1)*size]) // of the right size
		a.VIPs = append(a.VIPs, addr)
	}
	return a, true
}

// gatherClock asks the kernel what it was told of its clock (adjtimex(2)).
func gatherClock(f *deploy.Facts) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		f.ClockFault = "the kernel does not say: " + err.Error()
		return
	}
	const unsynchronised = 5 // TIME_ERROR
	f.ClockSync = state != unsynchronised && t.Status&unix.STA_UNSYNC == 0
	f.ClockError = time.Duration(t.Esterror) * time.Microsecond
}
