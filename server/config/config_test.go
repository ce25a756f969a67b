package config

import (
	"slices"
	"strings"
	"testing"
)

// valid is a Config of two pools and two listeners, to which nobody has anything to say.
func valid() Config {
	c := Default()
	for i, name := range []string{"main", "sessions"} {
		p := DefaultPool()
		p.Name, p.Copies = name, [][]Node{{{Host: string(rune('a' + i)), Port: 1}}}
		c.Pools = append(c.Pools, p)
	}
	c.Listen = []Listen{
		{Network: "tcp", Address: "0.0.0.0:11211"},
		{Network: "tcp", Address: "0.0.0.0:11212", Routes: []Route{{Prefix: "s:", Pool: "sessions"}, {Pool: "main"}}},
	}
	return c
}

// TestValidate has what no flag can say: a Config may come from elsewhere.
func TestValidate(t *testing.T) {
	good := valid()
	if err := good.Validate(); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if all := good.Warnings(); all != nil {
		t.Errorf("a good one: %q", all)
	}
	for want, change := range map[string]func(*Config){
		"pool main: hedge must be above 0":            func(c *Config) { c.Pools[0].Hedge.After = -1 },
		"pool sessions: debt limit must not be below": func(c *Config) { c.Pools[1].DebtLimit = -1 },
		"pool main: no node":                          func(c *Config) { c.Pools[0].Copies = nil },
		"client buffer must be above 0":               func(c *Config) { c.ClientBuffer = 0 },
		"no pool":                                     func(c *Config) { c.Pools, c.Listen[1].Routes = nil, nil },
		`there are two pools "main"`:                  func(c *Config) { c.Pools[1].Name, c.Listen[1].Routes = "main", nil },
		"a pool's name has 1 to 64 letters":           func(c *Config) { c.Pools[1].Name, c.Listen[1].Routes = "a b", nil },
		`listener 0.0.0.0:11212: keys that begin with "x" go to the pool "y", and there is none`: func(c *Config) {
			c.Listen[1].Routes = append(c.Listen[1].Routes, Route{"x", "y"})
		},
		`listener 0.0.0.0:11212: the prefix "s:" is routed twice`: func(c *Config) {
			c.Listen[1].Routes = append(c.Listen[1].Routes, Route{"s:", "main"})
		},
		`listener 0.0.0.0:11212: no key begins with "a b"`: func(c *Config) {
			c.Listen[1].Routes = append(c.Listen[1].Routes, Route{"a b", "main"})
		},
		"listener 0.0.0.0:11212: a prefix has at most 250 bytes": func(c *Config) {
			c.Listen[1].Routes = append(c.Listen[1].Routes, Route{strings.Repeat("x", 251), "main"})
		},
		"listener 0.0.0.0:11212: it is listed twice": func(c *Config) { c.Listen[0] = c.Listen[1] },
		"b:1 is in the pools main and sessions: only pools of one copy may share a node": func(c *Config) {
			c.Pools[0].Copies = append(c.Pools[0].Copies, c.Pools[1].Copies[0])
		},
	} {
		bad := valid()
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	shared := valid()
	shared.Pools[0].Copies = shared.Pools[1].Copies
	if err := shared.Validate(); err != nil {
		t.Errorf("two pools of one copy share a node: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"listener 0.0.0.0:11212 has no pool for keys of other prefixes: they are refused": func(c *Config) {
			c.Listen[1].Routes = c.Listen[1].Routes[:1]
		},
		"no listener gives the pool sessions any key": func(c *Config) { c.Listen = c.Listen[:1] },
		"pool main: --hedge does nothing":             func(c *Config) { c.Pools[0].Hedge.Auto = true },
	} {
		c := valid()
		change(&c)
		if all := c.Warnings(); !slices.ContainsFunc(all, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("want %q, got %q", want, all)
		}
	}
}

func TestNodeFiles(t *testing.T) {
	c := valid()
	c.Pools[1].ConnsPerNode = 3
	c.Pools[1].Copies = append(c.Pools[1].Copies, []Node{{Host: "c", Port: 1}, {Host: "d", Port: 1}})
	if n := c.NodeFiles(2); n != (2+1)+3*(2*3+1) {
		t.Errorf("%d descriptors for two loops, want 24", n)
	}
	c.Pools[0].Access.Binary = true
	if n := c.NodeFiles(2); n != 4*(2+1)+3*(2*3+1) {
		t.Errorf("%d descriptors for two loops, want 33: a connection that is interpreted has 4", n)
	}
}
