package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// question is one pool of nutcracker's, listening on a socket of its own.
type question struct {
	dist, hash, tag string
	pool            pool
	socket          string
}

// askTwemproxy runs nutcracker before fake nodes and writes where it sends each key.
func askTwemproxy(out *bufio.Writer) error {
	dir, err := os.MkdirTemp("", "vectors")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	closeNodes, err := listenNodes(pools)
	if err != nil {
		return err
	}
	defer closeNodes()

	questions := twemproxyQuestions(dir)
	stop, err := startNutcracker(dir, questions)
	if err != nil {
		return err
	}
	defer stop()

	header(out, pools)
	for _, q := range questions {
		nodes, err := q.ask()
		if err != nil {
			return fmt.Errorf("%s %s %s: %w", q.dist, q.hash, q.pool.name, err)
		}
		tag := q.tag
		if tag == "" {
			tag = "-"
		}
		fmt.Fprintf(out, "place %s %s %s %s %s\n", q.dist, q.hash, tag, q.pool.name, nodes)
	}
	return nil
}

// twemproxyQuestions is every distribution and hash over every pool, and tags
// over one pool, since they come before the hash and do not know it.
func twemproxyQuestions(dir string) []question {
	var qs []question
	add := func(dist, hash, tag string, p pool) {
		qs = append(qs, question{dist, hash, tag, p, filepath.Join(dir, fmt.Sprintf("q%d", len(qs)))})
	}
	for _, dist := range []string{"ketama", "modula"} {
		for _, hash := range []string{
			"fnv1a_64", "fnv1a_32", "fnv1_64", "fnv1_32", "md5", "crc32", "crc32a", "crc16", "one_at_a_time", "murmur", "hsieh", "jenkins",
		} {
			for _, p := range pools {
				add(dist, hash, "", p)
			}
		}
		for _, tag := range []string{"{}", "}{", "ab", "::"} {
			add(dist, "fnv1a_64", tag, pools[2])
		}
	}
	return qs
}

// listenNodes answers at every address of pools. Each get is answered with a
// value that is the address it was sent to.
func listenNodes(pools []pool) (closeAll func(), err error) {
	listening := map[string]net.Listener{}
	closeAll = func() {
		for _, ln := range listening {
			ln.Close()
		}
	}
	for _, p := range pools {
		for _, s := range p.servers {
			if listening[s.addr()] != nil {
				continue
			}
			ln, err := net.Listen("tcp", s.addr())
			if err != nil {
				closeAll()
				return nil, err
			}
			listening[s.addr()] = ln
			go serveNode(ln, s.addr())
		}
	}
	return closeAll, nil
}

func serveNode(ln net.Listener, value string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // closed at the end of the run
		}
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				key := strings.TrimRight(strings.TrimPrefix(line, "get "), " \r\n")
				fmt.Fprintf(conn, "VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(value), value)
			}
		}()
	}
}

// startNutcracker returns when every question's socket accepts.
func startNutcracker(dir string, questions []question) (stop func(), err error) {
	conf := filepath.Join(dir, "conf.yml")
	if err := os.WriteFile(conf, nutcrackerConf(questions), 0o600); err != nil {
		return nil, err
	}
	stats, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("nutcracker", "-c", conf, "-o", filepath.Join(dir, "log"), "-p", filepath.Join(dir, "pid"),
		"-a", "127.0.0.1", "-s", strconv.Itoa(stats))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	stop = func() { _ = cmd.Process.Kill(); <-exited }

	deadline := time.After(10 * time.Second)
	for _, q := range questions {
		for {
			conn, err := net.Dial("unix", q.socket)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-exited:
				return nil, fmt.Errorf("nutcracker ended: %s", stderr.String())
			case <-deadline:
				stop()
				return nil, errors.New("nutcracker does not listen")
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return stop, nil
}

func nutcrackerConf(questions []question) []byte {
	var b bytes.Buffer
	for i, q := range questions {
		fmt.Fprintf(&b, "q%d:\n  listen: %s\n  hash: %s\n  distribution: %s\n  auto_eject_hosts: false\n  timeout: 5000\n", i, q.socket, q.hash, q.dist)
		if q.tag != "" {
			fmt.Fprintf(&b, "  hash_tag: %q\n", q.tag)
		}
		b.WriteString("  servers:\n")
		for _, s := range q.pool.servers {
			fmt.Fprintf(&b, "   - %s\n", strings.TrimSpace(fmt.Sprintf("%s:%d %s", s.addr(), s.weight, s.alias)))
		}
	}
	return b.Bytes()
}

// freePort finds a port for nutcracker's statistics, which cannot be turned off.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// ask gets every key and returns the digits of the nodes that answered.
func (q question) ask() (string, error) {
	conn, err := net.Dial("unix", q.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	index := map[string]int{}
	for i, s := range q.pool.servers {
		index[s.addr()] = i
	}
	var nodes strings.Builder
	r := bufio.NewReader(conn)
	for _, k := range keys() {
		if _, err := fmt.Fprintf(conn, "get %s\r\n", k); err != nil {
			return "", err
		}
		addr, err := readValue(r, k)
		if err != nil {
			return "", err
		}
		i, ok := index[addr]
		if !ok {
			return "", fmt.Errorf("key %q went to %q, which is not in the pool", k, addr)
		}
		nodes.WriteString(digit(i))
	}
	return nodes.String(), nil
}

// readValue reads the whole answer to a get of key.
func readValue(r *bufio.Reader, key string) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	prefix := "VALUE " + key + " 0 "
	if !strings.HasPrefix(line, prefix) {
		return "", fmt.Errorf("get %q answered %q", key, line)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[len(prefix):]))
	if err != nil {
		return "", err
	}
	rest := make([]byte, n+len("\r\nEND\r\n"))
	if _, err := io.ReadFull(r, rest); err != nil {
		return "", err
	}
	return string(rest[:n]), nil
}
