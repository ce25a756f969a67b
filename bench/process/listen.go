package process

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FreePort is a port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, fmt.Errorf("process: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

var errNotListening = errors.New("it does not listen")

// listeningPort is the TCP port that process pid itself listens on: port, or any if
// that is 0. A dial would not tell whether it is another that has the port.
// The tables are those of proc_pid_net(5).
func listeningPort(pid, port int) (int, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return 0, err
	}
	own := make(map[string]bool)
	for _, fd := range fds {
		// One closed meanwhile is none that it listens on.
		if what, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil {
			own[what] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		found, err := listeningIn(filepath.Join(proc, "net", table), own, port)
		if err == nil || !errors.Is(err, os.ErrNotExist) && err != errNotListening { // else there is no IPv6
			return found, err
		}
	}
	return 0, errNotListening
}

// listeningIn is listeningPort of one table, for sockets that are own. A table begins with
// those that listen (the kernel's networking/proc_net_tcp.rst), and what follows is not
// read: a machine that makes many connections has tens of thousands of lines there, which
// take the kernel a tenth of a second.
func listeningIn(table string, own map[string]bool, port int) (int, error) {
	file, err := os.Open(table)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // sl, local address, remote address, state, ..., [9] inode
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		if f[3] != listening {
			break
		}
		_, digits, _ := strings.Cut(f[1], ":")
		found, err := strconv.ParseUint(digits, 16, 16)
		if err == nil && own["socket:["+f[9]+"]"] && (port == 0 || port == int(found)) {
			return int(found), nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errNotListening
}

// listening is TCP_LISTEN as the tables have it.
const listening = "0A"
