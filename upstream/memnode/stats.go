package memnode

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"syscall"
)

// stat is one line of a stats reply. A nil value is a thing this node has not
// got; it is shown as 0 so that the reply has memcached's shape.
type stat struct {
	name  string
	value any
}

func (c *conn) stats(words [][]byte) bool {
	if len(words) == 1 {
		return c.statLines(c.generalStats())
	}
	switch string(words[1]) {
	case "reset":
		c.store.resetStats()
		return c.reply("RESET")
	case "settings":
		return c.statLines(c.settingsStats())
	case "items":
		return c.statLines(c.store.itemsStats())
	case "slabs":
		return c.statLines(c.store.slabsStats())
	case "conns":
		return c.statLines(c.p.connsStats())
	case "sizes":
		return c.statLines([]stat{{"sizes_status", "disabled"}})
	}
	return c.reply("ERROR")
}

func (c *conn) statLines(stats []stat) bool {
	for _, st := range stats {
		if st.value == nil {
			st.value = 0
		}
		fmt.Fprintf(c, "STAT %s %v\r\n", st.name, st.value)
	}
	c.out = append(c.out, "END\r\n"...)
	return true
}

func (c *conn) generalStats() []stat {
	p, s := c.p, c.store
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // cannot fail with these arguments
	p.mu.Lock()
	open := len(p.conns)
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	n, now := &s.n, s.now()
	return []stat{
		{"pid", p.pid}, {"uptime", now - uptimeSkew}, {"time", int64(now) + s.started},
		{"version", p.node.cfg.Version}, {"libevent", "none"}, {"pointer_size", strconv.IntSize},
		{"rusage_user", seconds(ru.Utime)}, {"rusage_system", seconds(ru.Stime)},
		{"max_connections", maxConns}, {"curr_connections", open},
		{"total_connections", p.wire.accepted.Load() + 1}, {"rejected_connections", nil},
		{"connection_structures", open + 1}, {"response_obj_oom", nil}, {"response_obj_count", nil},
		{"response_obj_bytes", nil}, {"read_buf_count", nil}, {"read_buf_bytes", nil},
		{"read_buf_bytes_free", nil}, {"read_buf_oom", nil}, {"reserved_fds", nil},
		{"cmd_get", n.gets}, {"cmd_set", n.sets}, {"cmd_flush", n.flushes}, {"cmd_touch", n.touches},
		{"cmd_meta", n.metas}, {"get_hits", n.getHits}, {"get_misses", n.getMisses},
		{"get_expired", n.getExpired}, {"get_flushed", n.getFlushed},
		{"delete_misses", n.deleteMisses}, {"delete_hits", n.deleteHits},
		{"incr_misses", n.incrMisses}, {"incr_hits", n.incrHits},
		{"decr_misses", n.decrMisses}, {"decr_hits", n.decrHits},
		{"cas_misses", n.casMisses}, {"cas_hits", n.casHits}, {"cas_badval", n.casBad},
		{"touch_hits", n.touchHits}, {"touch_misses", n.touchMisses},
		{"store_too_large", n.tooLarge}, {"store_no_memory", n.noMemory},
		{"auth_cmds", nil}, {"auth_errors", nil},
		{"bytes_read", p.wire.read.Load()}, {"bytes_written", p.wire.written.Load()},
		{"limit_maxbytes", s.maxBytes}, {"accepting_conns", 1}, {"listen_disabled_num", nil},
		{"time_in_listen_disabled_us", nil}, {"threads", 1}, {"conn_yields", nil},
		{"hash_power_level", nil}, {"hash_bytes", nil}, {"hash_is_expanding", nil},
		{"slab_reassign_rescues", nil}, {"slab_reassign_chunk_rescues", nil},
		{"slab_reassign_evictions_nomem", nil}, {"slab_reassign_inline_reclaim", nil},
		{"slab_reassign_busy_items", nil}, {"slab_reassign_busy_deletes", nil},
		{"slab_reassign_running", nil}, {"slabs_moved", nil}, {"lru_crawler_running", nil},
		{"lru_crawler_starts", nil}, {"lru_maintainer_juggles", nil}, {"malloc_fails", nil},
		{"log_worker_dropped", nil}, {"log_worker_written", nil}, {"log_watcher_skipped", nil},
		{"log_watcher_sent", nil}, {"log_watchers", nil}, {"unexpected_napi_ids", nil},
		{"round_robin_fallback", nil}, {"bytes", n.bytes}, {"curr_items", len(s.items)},
		{"total_items", n.total}, {"slab_global_page_pool", nil}, {"expired_unfetched", nil},
		{"evicted_unfetched", nil}, {"evicted_active", nil}, {"evictions", n.evictions},
		{"reclaimed", n.reclaimed}, {"crawler_reclaimed", nil}, {"crawler_items_checked", nil},
		{"lrutail_reflocked", nil}, {"moves_to_cold", nil}, {"moves_to_warm", nil},
		{"moves_within_lru", nil}, {"direct_reclaims", nil}, {"lru_bumps_dropped", nil},
	}
}

// maxConns is shown, not enforced: memcached's default.
const maxConns = 1024

func seconds(t syscall.Timeval) string { return fmt.Sprintf("%d.%06d", t.Sec, t.Usec) }

func (c *conn) settingsStats() []stat {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return []stat{
		{"maxbytes", s.maxBytes}, {"maxconns", maxConns}, {"inter", c.p.node.addr},
		{"verbosity", 0}, {"evictions", "on"}, {"growth_factor", "1.25"}, {"chunk_size", headerSize},
		{"num_threads", 1}, {"stat_key_prefix", ":"}, {"detail_enabled", "no"}, {"cas_enabled", "yes"},
		{"binding_protocol", "ascii"}, {"item_size_max", s.maxItem}, {"flush_enabled", "yes"},
		{"dump_enabled", "yes"}, {"lru_crawler", "yes"}, {"idle_timeout", 0},
	}
}

// tallyClass is what stats items and stats slabs say of one slab class.
type tallyClass struct {
	items     int
	requested int
	age       uint32 // of the coldest
}

func (s *store) byClass() map[int]*tallyClass {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, m := s.now(), make(map[int]*tallyClass)
	for it := s.lru.prev; it != &s.lru; it = it.prev {
		t := m[it.class()]
		if t == nil {
			t = &tallyClass{age: now - it.access}
			m[it.class()] = t
		}
		t.items++
		t.requested += it.size()
	}
	return m
}

func (s *store) itemsStats() (out []stat) {
	by := s.byClass()
	for _, class := range sortedKeys(by) {
		t := by[class]
		at := "items:" + strconv.Itoa(class) + ":"
		out = append(out, stat{at + "number", t.items}, stat{at + "age", t.age}, stat{at + "mem_requested", t.requested})
		for _, name := range []string{"evicted", "evicted_nonzero", "evicted_time", "outofmemory", "tailrepairs", "reclaimed"} {
			out = append(out, stat{at + name, nil})
		}
	}
	return out
}

func (s *store) slabsStats() (out []stat) {
	by := s.byClass()
	total := 0
	for _, class := range sortedKeys(by) {
		t := by[class]
		at := strconv.Itoa(class) + ":"
		chunk := classes[class-1]
		per := defaultMaxItem / chunk
		pages := (t.items + per - 1) / per
		total += pages * defaultMaxItem
		out = append(out, stat{at + "chunk_size", chunk}, stat{at + "chunks_per_page", per},
			stat{at + "total_pages", pages}, stat{at + "total_chunks", pages * per},
			stat{at + "used_chunks", t.items}, stat{at + "free_chunks", pages*per - t.items})
	}
	return append(out, stat{"active_slabs", len(by)}, stat{"total_malloced", total})
}

func sortedKeys(m map[int]*tallyClass) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// connsStats lists the listener, as number 0 where memcached has file
// descriptors, and the connections. A client that has gone is listed until what it
// sent has been executed.
func (p *process) connsStats() []stat {
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b *conn) int { return a.id - b.id })
	now, addr := p.store.now(), p.addr
	out := []stat{
		{"0:addr", shown(addr)}, {"0:state", "conn_listening"},
		{"0:secs_since_last_cmd", now - startSlack},
	}
	for _, c := range all {
		at := strconv.Itoa(c.id) + ":"
		peer := "?:<AF 0>" // memcached's word for the client of a unix socket
		if addr.Network() == "tcp" {
			peer = shown(c.c.RemoteAddr())
		}
		active := c.active.Load() // may be later than now
		out = append(out, stat{at + "addr", peer}, stat{at + "listen_addr", shown(addr)},
			stat{at + "state", connStateText[c.state.Load()]},
			stat{at + "secs_since_last_cmd", max(now, active) - active})
	}
	return out
}

// shown writes an address as memcached does.
func shown(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok && t.IP.To4() == nil {
		return "tcp6:" + a.String()
	}
	return a.Network() + ":" + a.String()
}

// resetStats zeroes what counts events, not what measures the present.
func (s *store) resetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n = tally{bytes: s.n.bytes}
}

// counters is Node.Stats without the faults.
func (p *process) counters() Counters {
	p.mu.Lock()
	open := len(p.conns)
	p.mu.Unlock()
	s := p.store
	s.mu.Lock()
	out := Counters{
		Commands: make(map[string]uint64), Conns: open, Items: len(s.items), Bytes: s.n.bytes,
		Hits: s.n.getHits, Misses: s.n.getMisses, Evictions: s.n.evictions,
	}
	s.mu.Unlock()
	for i := range p.seen {
		name := ""
		if i < len(commands) {
			name = commands[i].name
		}
		if n := p.seen[i].Load(); n > 0 {
			out.Commands[name] = n
		}
	}
	return out
}
