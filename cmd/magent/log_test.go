package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
)

// terminal opens a pseudo-terminal: what is written to one end is read from the other.
func terminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// TestLogFormat: people at a terminal read text, and programs JSON, unless they say
// otherwise.
func TestLogFormat(t *testing.T) {
	const asText = "time=.* level=INFO msg=listening address="
	const asJSON = `{"time":".*","level":"INFO","msg":"listening","address":"`
	node := newNode(t).Addr()
	for format, want := range map[string]string{"auto": asJSON, "json": asJSON, "text": asText} {
		p := startServe(t, freeAddr(t), "-s", node, "--log-format", format)
		proctest.Eventually(t, "--log-format "+format, func() bool { return regexp.MustCompile(want).MatchString(p.stderr.String()) })
	}
	near, far := terminal(t)
	addr := freeAddr(t)
	cmd := exec.Command(binary, "serve", "-l", "127.0.0.1", "-p", portOf(t, addr), "--admin", "none", "-s", node)
	cmd.Stderr = far
	launch(t, cmd)
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(near).ReadString('\n')
		line <- text
	}()
	select {
	case text := <-line:
		if !regexp.MustCompile(asText).MatchString(text) {
			t.Errorf("on a terminal a line is %q", text)
		}
	case <-time.After(proctest.Patience):
		t.Error("nothing is said on a terminal")
	}
	magent(t, "serve", "-s", node, "--log-format", "xml").wantFault(t, "--log-format must be one of auto, text, json")
}

// logged waits for a line of the log with this message, and returns it.
func (p *process) logged(msg string) (line map[string]any) {
	p.t.Helper()
	proctest.Eventually(p.t, "the log has "+msg, func() bool {
		for text := range strings.Lines(p.stderr.String()) {
			line = nil
			if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == msg {
				return true
			}
		}
		return false
	})
	return line
}

func TestSlowRequestsAreLogged(t *testing.T) {
	node, addr := newNode(t), freeAddr(t)
	p := startServe(t, addr, "-s", node.Addr(), "--slow", "30ms", "--timeout", "10s")
	talk(t, "tcp", addr, setHello, "STORED\r\n")
	if err := node.SetFault("(on get (stall 60ms))"); err != nil {
		t.Fatal(err)
	}
	talk(t, "tcp", addr, "get greeting\r\n", "VALUE greeting 0 5\r\nhello\r\nEND\r\n")
	line := p.logged("slow request")
	took, _ := line["took"].(float64)
	at, _ := line["at_node"].(float64)
	if line["command"] != "get" || line["key"] != "18f6b0200b6fd32c" || line["node"] != node.Addr() || took < 0.06 || at > took {
		t.Errorf("the line is %v", line)
	}
	if client, _ := line["client"].(string); !strings.HasPrefix(client, "127.0.0.1:") {
		t.Errorf("the client is %q", client)
	}
	node.Kill()
	talk(t, "tcp", addr, "get greeting\r\n", "SERVER_ERROR node ")
	if cause, _ := p.logged("failed request")["cause"].(string); !strings.HasPrefix(cause, "SERVER_ERROR node "+node.Addr()) {
		t.Errorf("the cause is %q", cause)
	}
}

// TestLogThatNobodyReads: a magent whose log goes to a pipe that is full serves on, and
// ends when it is told to.
func TestLogThatNobodyReads(t *testing.T) {
	node, addr := newNode(t), freeAddr(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "-v", "-l", "127.0.0.1", "-p", portOf(t, addr), "--admin", "none", "-n", "1", "-s", node.Addr())
	cmd.Stderr = w
	p := launch(t, cmd)
	w.Close()
	p.waitFor("tcp", addr)
	var c net.Conn
	var in *bufio.Reader
	proctest.Eventually(t, "the only client is served", func() bool {
		if c, err = net.Dial("tcp", addr); err != nil {
			return false
		}
		fmt.Fprint(c, "mn\r\n")
		in = bufio.NewReader(c)
		line, _ := in.ReadString('\n')
		return line == "MN\r\n"
	})
	defer c.Close()
	proctest.Eventually(t, "lines are lost", func() bool {
		for range 100 { // each of them is turned away, and that is logged
			reachable("tcp", addr)
		}
		lost := ""
		fmt.Fprint(c, "stats proxy\r\n")
		for line := ""; !strings.HasPrefix(line, "END"); {
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if n, ok := strings.CutPrefix(line, "STAT log_lost "); ok {
				lost = strings.TrimSpace(n)
			}
		}
		return lost != "" && lost != "0"
	})
	p.Process.Signal(syscall.SIGTERM)
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
