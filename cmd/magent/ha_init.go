package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"magent/server/admin"
	"magent/server/config"
	"magent/server/config/file"
	"magent/tools/deploy"
)

// haInit is the flags of magent ha init.
type haInit struct {
	vips                         []string
	source, peer                 string
	profile, preempt, supervisor string
	dir                          string
	force, print                 bool
	kit                          deploy.Kit
	serve                        config.Flags
	serveFlags                   *pflag.FlagSet
}

func newHAInit() *cobra.Command {
	var h haInit
	cmd := &cobra.Command{
		Use:   "init --vip address/length --interface name --peer address [-s host:port -b host:port] [flags of init and of serve]",
		Short: "Write what keepalived, systemd and monit need on this machine, one of two",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return h.run() },
	}
	h.bind(cmd.Flags())
	return cmd
}

func (h *haInit) bind(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringArrayVar(&h.vips, "vip", nil, "the `address/length` that the machines share, such as 192.0.2.254/24; repeat for more")
	fs.StringVar(&h.kit.Interface, "interface", "", "put it on the interface of this `name`")
	fs.StringVar(&h.peer, "peer", "", "the other machine's own `address`")
	fs.StringVar(&h.source, "source", "", "this machine's own `address`; default is the one from which it reaches the peer")
	fs.IntVar(&h.kit.Priority, "priority", deploy.PlainPriority, "a `number` from 1 to 254: of two that boot together, the higher has the address")
	fs.IntVar(&h.kit.RouterID, "router-id", 0, "the VRRP router `number`, 1 to 255, the same on both and no other's in this network; default is the last byte of the address")
	fs.StringVar(&h.profile, "profile", string(deploy.ProfileDefault), "how soon the other takes over, by `name`: default (1 s) or fast (0.4 s)")
	fs.StringVar(&h.preempt, "preempt", string(deploy.PreemptNever), "`when` the higher priority takes the address back: never, or warm (when every node is)")
	fs.BoolVar(&h.kit.Multicast, "multicast", false, "send adverts to VRRP's group, not to the peer")
	fs.DurationVar(&h.kit.StartDelay, "start-delay", 0, "have keepalived wait for this `duration` at its start")
	fs.StringVar(&h.supervisor, "supervisor", string(deploy.Systemd), "what restarts processes, by `name`: systemd or monit")
	fs.StringVar(&h.dir, "dir", "/", "write below the directory at this `path`")
	fs.BoolVar(&h.force, "force", false, "overwrite files that differ")
	fs.BoolVar(&h.print, "stdout", false, "print the files instead of writing them")

	h.serveFlags = pflag.NewFlagSet("serve", pflag.ContinueOnError)
	h.serve.Bind(h.serveFlags)
	h.serveFlags.VisitAll(func(f *pflag.Flag) {
		if fs.Lookup(f.Name) == nil {
			f.Hidden = true // magent help serve has them
			fs.AddFlag(f)
		}
	})
}

func (h *haInit) run() error {
	if err := h.settle(); err != nil {
		return err
	}
	files, err := deploy.Files(h.kit)
	if err != nil {
		return err
	}
	if h.print {
		for _, f := range files {
			fmt.Printf("==> %s (mode %04o)\n%s\n", f.Path, f.Mode, f.Content)
		}
		return nil
	}
	return h.write(files)
}

// settle makes the kit of what was typed.
func (h *haInit) settle() error {
	var errs []error
	fault := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, text := range h.vips {
		v, err := parseVIP(text)
		fault(err)
		h.kit.VIPs = append(h.kit.VIPs, v)
	}
	var err error
	if h.peer != "" {
		if h.kit.Peer, err = netip.ParseAddr(h.peer); err != nil {
			fault(fmt.Errorf("--peer takes an address, not %q", h.peer))
		}
	}
	fault(h.settleSource())
	h.kit.Profile, h.kit.Preempt, h.kit.Supervisor = deploy.Profile(h.profile), deploy.Preempt(h.preempt), deploy.Supervisor(h.supervisor)
	if h.kit.Binary, err = os.Executable(); err != nil {
		fault(err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return h.settleServe()
}

func parseVIP(text string) (netip.Prefix, error) {
	v, err := netip.ParsePrefix(text)
	if err != nil {
		return v, fmt.Errorf("--vip takes an address with the length of its network's prefix, such as 192.0.2.254/24, not %q", text)
	}
	return v, nil
}

// settleSource finds this machine's own address.
func (h *haInit) settleSource() (err error) {
	switch {
	case h.source != "":
		if h.kit.Source, err = netip.ParseAddr(h.source); err != nil {
			return fmt.Errorf("--source takes an address, not %q", h.source)
		}
		return nil
	case !h.kit.Peer.IsValid():
		return errors.New("without --peer, --source has to say which address of this machine is its own")
	}
	h.kit.Source, err = sourceTowards(h.kit.Peer)
	if err != nil {
		return fmt.Errorf("%w: --source says which address of this machine is its own", err)
	}
	return nil
}

// sourceTowards is the address from which this machine speaks to peer. Nothing is sent.
func sourceTowards(peer netip.Addr) (netip.Addr, error) {
	c, err := net.Dial("udp", netip.AddrPortFrom(peer, 112).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("there is no way to %v", peer)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// notInUnit is the flags of serve that the kit sets, or that have no place there.
var notInUnit = []string{"listen", "port", "admin", "user", "group", "foreground", "verbose", "pidfile", "log-file", "vip", "profile", "profile-dir", "config", "print-config"}

// settleNodes names the memcacheds if nobody did: there is one on each machine. Both machines
// have to come to the same, in the same order.
func (h *haInit) settleNodes() error {
	servers, backups := h.serveFlags.Lookup("server"), h.serveFlags.Lookup("backup")
	if servers.Changed || backups.Changed || !h.kit.Peer.IsValid() {
		return nil
	}
	primary, backup := h.kit.Source, h.kit.Peer
	if backup.Less(primary) {
		primary, backup = backup, primary
	}
	return errors.Join(h.serveFlags.Set("server", node(primary)), h.serveFlags.Set("backup", node(backup)))
}

// node is the memcached at an address, as -s takes it.
func node(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// settleServe makes the command line of magent, once it has been found to be one.
func (h *haInit) settleServe() error {
	if h.serve.File == "" {
		if err := h.settleNodes(); err != nil {
			return err
		}
	}
	o := &orders{line: h.serveFlags, flags: &h.serve}
	told, err := o.settle()
	if err != nil {
		return err
	}
	file.MakeAbsolute(h.serveFlags, o.directory) // which settle has left alone beside a file
	for _, w := range told.Warnings() {
		complain("warning: " + w)
	}
	k := &h.kit
	if err := h.settleListeners(o, told); err != nil {
		return err
	}
	h.settlePaths(told.Flags)
	h.serveFlags.VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(notInUnit, f.Name) {
			k.Serve = append(k.Serve, typed(f)...)
		}
	})
	// In whole seconds: start-stop-daemon takes no others.
	k.Files, k.StopWait = mostFiles(&told.Config), (told.HandoverWait + told.DrainTimeout + 4*time.Second - 1).Truncate(time.Second)
	for i := range told.Pools {
		for _, n := range slices.Concat(told.Pools[i].Copies...) {
			if n.Host == k.Source.String() && k.Node == "" {
				k.Node = n.Address()
			}
		}
	}
	return nil
}

// settlePaths says who magent is, and where it writes.
func (h *haInit) settlePaths(f *config.Flags) {
	k := &h.kit
	k.User, k.LogFile = cmp.Or(f.User, "magent"), f.LogFile
	k.Admin, k.PidFile = deploy.AdminPath(k.Port), fmt.Sprintf("/run/magent/%d.pid", k.Port)
	if k.Supervisor == deploy.Monit {
		k.Admin, k.PidFile = admin.DefaultPath(k.Port), fmt.Sprintf("/run/magent-%d.pid", k.Port)
		k.LogFile = cmp.Or(k.LogFile, "/var/log/magent.log")
	}
	k.Admin, k.PidFile = cmp.Or(f.Admin, k.Admin), cmp.Or(f.PidFile, k.PidFile)
}

// settleListeners says where clients are served: at the virtual addresses, and this machine's own,
// or where the file says, which must be there, too.
func (h *haInit) settleListeners(o *orders, told *file.Settings) (err error) {
	k := &h.kit
	if h.serve.File != "" {
		k.Serve = append(k.Serve, "--config", o.path())
		k.Port, err = portAt(k.VIPs, told.Listen)
		return err
	}
	if k.Port, err = h.serveFlags.GetInt("port"); err != nil {
		return err
	}
	if k.Port == 0 {
		return errors.New("-p 0 will not do: it is where the machines ask each other, in TCP without TLS")
	}
	listen := make([]string, 0, len(k.VIPs)+1)
	for _, v := range k.VIPs {
		listen = append(listen, v.Addr().String())
	}
	listen = append(listen, k.Source.String())
	if f := h.serveFlags.Lookup("listen"); f.Changed {
		listen = []string{f.Value.String()}
	}
	k.Serve = append(k.Serve, "-l", strings.Join(listen, ","), "-p", strconv.Itoa(k.Port))
	return nil
}

// portAt is the port where the machines ask each other: that of the first listener without TLS that
// serves a virtual address. Every such address must have a listener.
func portAt(vips []netip.Prefix, listen []config.Listen) (port int, err error) {
	var errs []error
	for _, v := range vips {
		served := func(l config.Listen) bool { return portFor(l, v.Addr()) > 0 }
		if !slices.ContainsFunc(listen, served) {
			errs = append(errs, fmt.Errorf("no listener of the file is at %v: clients would find nobody there", v.Addr()))
		}
		if i := slices.IndexFunc(listen, func(l config.Listen) bool { return !l.TLS && served(l) }); i >= 0 && port == 0 {
			port = portFor(listen[i], v.Addr())
		}
	}
	if len(errs) == 0 && port == 0 {
		errs = append(errs, errors.New("no listener of the file without TLS is at an address of --vip: the machines ask each other there"))
	}
	return port, errors.Join(errs...)
}

// portFor is the port at which l serves an address; 0 if it does not.
func portFor(l config.Listen, a netip.Addr) int {
	at, err := netip.ParseAddrPort(l.Address)
	if err != nil || at.Addr() != a && !(at.Addr().IsUnspecified() && (at.Addr().Is6() || a.Is4())) {
		return 0
	}
	return int(at.Port())
}

// mostFiles is what magent may need of open files on a machine of as many as 128 cores,
// see Files in OPERATIONS.md, in thousands.
func mostFiles(cfg *config.Config) int {
	const loops = 64
	n := cfg.MaxClients + filesBesideClients(cfg, max(loops, cfg.Loops))
	return (n + 999) / 1000 * 1000
}

// typed is what has to be typed for f to have the value that it has.
func typed(f *pflag.Flag) []string {
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand
	}
	if f.Value.Type() == "bool" {
		return []string{"--" + f.Name + "=" + f.Value.String()}
	}
	values := []string{f.Value.String()}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		values = list.GetSlice()
	}
	var words []string
	for _, v := range values {
		words = append(words, name, v)
	}
	return words
}

// write puts files below the directory: all of them or, if one is there that differs,
// none.
func (h *haInit) write(files []deploy.File) error {
	var errs []error
	for _, f := range files {
		old, err := os.ReadFile(filepath.Join(h.dir, f.Path))
		switch {
		case errors.Is(err, os.ErrNotExist), h.force, err == nil && string(old) == f.Content:
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, fmt.Errorf("%s is there and differs: --force overwrites it, --stdout shows what it would be", filepath.Join(h.dir, f.Path)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(h.dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.Content), f.Mode); err != nil {
			return err
		}
		if err := os.Chmod(path, f.Mode); err != nil { // one that was there keeps its mode
			return err
		}
		fmt.Println(path)
	}
	return nil
}
