package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed libmemcached/ask.c
var askSource []byte

// askLibmemcached compiles ask.c, which is linked to libmemcached, asks it for
// hashes and places, and writes its answers. Pools with aliases are left out,
// which it does not have, and the one that shows twemproxy's order by name.
func askLibmemcached(out *bufio.Writer) error {
	dir, err := os.MkdirTemp("", "vectors")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, program := filepath.Join(dir, "ask.c"), filepath.Join(dir, "ask")
	if err := os.WriteFile(source, askSource, 0o600); err != nil {
		return err
	}
	if msg, err := exec.Command("cc", "-O1", "-Wall", "-o", program, source, "-lmemcached").CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w\n%s", err, msg)
	}

	var plain []pool
	for _, p := range pools {
		if !hasAlias(p) && p.name != "tied_reversed" {
			plain = append(plain, p)
		}
	}
	header(out, plain)
	ask := exec.Command(program)
	ask.Stdin = strings.NewReader(libmemcachedQuestions(plain))
	var stderr bytes.Buffer
	ask.Stdout, ask.Stderr = out, &stderr
	if err := ask.Run(); err != nil {
		return fmt.Errorf("ask: %w\n%s", err, stderr.String())
	}
	return nil
}

// libmemcachedQuestions is the input of ask.c. Only pools whose weights are all
// 1 are asked for modula, which does not heed them. hsieh is not asked for: Debian
// builds libmemcached without it.
func libmemcachedQuestions(pools []pool) string {
	var b strings.Builder
	for _, k := range keys() {
		fmt.Fprintf(&b, "key %x\n", k)
	}
	hashes := []string{"fnv1a_64", "fnv1a_32", "fnv1_64", "fnv1_32", "md5", "crc", "default", "murmur", "jenkins"}
	for _, h := range hashes {
		fmt.Fprintf(&b, "hash %s\n", h)
	}
	for _, dist := range []string{"ketama", "modula"} {
		for _, h := range hashes {
			for _, p := range pools {
				if dist == "modula" && hasWeights(p) {
					continue
				}
				fmt.Fprintf(&b, "place %s %s %s", dist, h, p.name)
				for _, s := range p.servers {
					fmt.Fprintf(&b, " %s:%d:%d", s.host, s.port, s.weight)
				}
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

func hasAlias(p pool) bool {
	for _, s := range p.servers {
		if s.alias != "" {
			return true
		}
	}
	return false
}

func hasWeights(p pool) bool {
	for _, s := range p.servers {
		if s.weight != 1 {
			return true
		}
	}
	return false
}
