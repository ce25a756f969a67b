package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"magent/bench/process"
)

// Topology is what a proxy is to stand in front of.
type Topology struct {
	Nodes, Backups []*process.Process
	// Flags are a Setting's. Only our proxy takes any.
	Flags []string
	// Read is a Setting's, too, and Operators the address at which it is to be asked for.
	Read, Operators string
	// CPUs are the proxy's; empty means all.
	CPUs []int
}

// read has what operators ask for read until end is called, which says what went wrong.
func (t *Topology) read(ctx context.Context) (end func() error) {
	if t.Read == "" {
		return func() error { return nil }
	}
	return newReader(ctx, "http://"+t.Operators+t.Read).close
}

// Rival is a kind of proxy, ours among them.
type Rival struct {
	Name string
	// Own says that it takes Settings, as our proxy does: it is another build of it.
	Own bool
	// Direct says that it is a node and no proxy: it has no CPU of its own, and holds
	// no bound.
	Direct bool
	// Attached says that somebody else started it, over nodes of its own. NodePIDs
	// are those that are known.
	Attached bool
	NodePIDs []int
	// Version, if not nil, names what is being measured.
	Version func() string
	// Start runs one over t. The caller stops it.
	Start func(ctx context.Context, t Topology) (*process.Process, error)
}

// Nutcracker is twemproxy as it is best set up for one host: one pipelined
// connection per node, opened ahead. mbuf is its buffer size in bytes (-m;
// 16384 is its default).
func Nutcracker(path string, mbuf int) Rival {
	version := func() string { return strings.TrimPrefix(process.Version(path, "-V"), "This is ") }
	return Rival{Name: "nutcracker", Version: version, Start: func(ctx context.Context, t Topology) (*process.Process, error) {
		if len(t.Backups) > 0 || len(t.Flags) > 0 {
			return nil, errors.New("compare: nutcracker keeps no second copy and knows no flags of magent")
		}
		return process.Start(ctx, nutcrackerRecipe(path, mbuf, t))
	}}
}

func nutcrackerRecipe(path string, mbuf int, t Topology) process.Recipe {
	return process.Recipe{Name: "nutcracker", Path: path, CPUs: t.CPUs, Args: func(port int, dir string) ([]string, error) {
		stats, err := process.FreePort()
		if err != nil {
			return nil, err
		}
		conf := filepath.Join(dir, "nutcracker.yml")
		if err := os.WriteFile(conf, nutcrackerConf(port, t.Nodes), 0o600); err != nil {
			return nil, err
		}
		return []string{
			"-c", conf, "-p", filepath.Join(dir, "pid"), "-o", filepath.Join(dir, "log"),
			"-a", "127.0.0.1", "-s", strconv.Itoa(stats), "-m", strconv.Itoa(mbuf),
		}, nil
	}}
}

func nutcrackerConf(port int, nodes []*process.Process) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `bench:
  listen: 127.0.0.1:%d
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  server_connections: 1
  client_connections: 16384
  backlog: 1024
  servers:
`, port)
	for _, n := range nodes {
		fmt.Fprintf(&b, "   - %s:1\n", n.Addr)
	}
	return b.Bytes()
}

// Magent is ours: the binary at path, with the flags of magent 0.6 and those of
// the topology.
func Magent(name, path string) Rival {
	version := func() string { return process.Version(path, "version") }
	return Rival{Name: name, Own: true, Version: version, Start: func(ctx context.Context, t Topology) (*process.Process, error) {
		return process.Start(ctx, magentRecipe(name, path, t))
	}}
}

func magentRecipe(name, path string, t Topology) process.Recipe {
	return process.Recipe{Name: name, Path: path, CPUs: t.CPUs, Args: func(port int, _ string) ([]string, error) {
		args := []string{"serve", "-D", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-n", "16384"}
		for _, n := range t.Nodes {
			args = append(args, "-s", n.Addr)
		}
		for _, n := range t.Backups {
			args = append(args, "-b", n.Addr)
		}
		if t.Operators != "" {
			args = append(args, "--admin-listen", t.Operators)
		}
		return append(args, t.Flags...), nil
	}}
}

// Direct is no proxy: the first node itself.
func Direct() Rival {
	return Rival{Name: "direct", Direct: true, Start: func(_ context.Context, t Topology) (*process.Process, error) {
		return &process.Process{Name: "direct", Addr: t.Nodes[0].Addr, PID: t.Nodes[0].PID}, nil
	}}
}

// behind is how many nodes r has behind it however many the others have, if that is known.
func (r Rival) behind() (n int, known bool) {
	if r.Direct {
		return 1, true
	}
	return len(r.NodePIDs), len(r.NodePIDs) > 0
}

// charge names the processes to charge a run of r to, name → pid: p, as r started it,
// and the nodes behind it.
func (r Rival) charge(p *process.Process, nodes []*process.Process) map[string]int {
	procs := make(map[string]int)
	if !r.Direct {
		procs[proxyProc] = p.PID
	}
	pids := r.NodePIDs
	if !r.Attached {
		for _, n := range nodes {
			pids = append(pids, n.PID)
		}
	}
	for i, pid := range pids {
		procs[fmt.Sprintf("node%d", i)] = pid
	}
	return procs
}
