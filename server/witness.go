package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	"magent/codec/text"
	"magent/server/config"
	"magent/upstream"
)

// witness is what a loop knows of the request at hand, so that one that is slow, or fails,
// can be logged: a few of them are, with what took so long. It is there only if somebody
// wants that. The times that it tells are those that are noted for each request anyway:
//
//	comes ── wait ──▶ is carried out ── at_lead ──▶ lead answers ── at_followers ──▶ answered
//	  for room, the gate, the rate   └───────── at_node: a read, or one copy ───────────┘
//
// A request is logged when it is answered. That the answer waits for its turn behind an
// older one is not its fault: the older one is logged.
type witness struct {
	slow  uint32 // µs
	keys  config.LogKeys
	lines sparing

	// The request that was spoken of last, as what is said of it may be its end. It is a
	// copy: the request itself may be gone by then.
	session *session
	seq     uint32
	node    *upstream.Node // who spoke, or is to; may be nil
	key     []byte         // as placement sees it
	said    []byte         // the error that it is answered with

	coded [text.MaxKey]byte // of keyOf
}

// witnessGap is the time between two such lines of a magent.
const witnessGap = 100 * time.Millisecond

// newWitness is nil if nothing is to be logged.
func newWitness(cfg *config.Config) *witness {
	if cfg.Slow == 0 {
		return nil
	}
	return &witness{slow: uint32(cfg.Slow / time.Microsecond), keys: cfg.LogKeys,
		lines: sparing{gap: witnessGap * time.Duration(max(1, cfg.Loops))}}
}

// about notes what is being spoken of.
func (w *witness) about(s *session, seq uint32, node *upstream.Node, key []byte) {
	w.session, w.seq, w.node = s, seq, node
	w.key, w.said = append(w.key[:0], key...), w.said[:0]
}

// begins notes a request for key that is about to be sent to c; nil if there is nobody.
func (w *witness) begins(s *session, seq uint32, c *upstream.Conn, key []byte) {
	sl := s.slots.at(seq)
	if s.since != 0 {
		sl.waited = s.loop.arrived() - s.since
	}
	if pool := sl.lane.pool; c == nil {
		w.about(s, seq, pool.Nodes[pool.Replica(0, key)], key)
		return
	}
	w.about(s, seq, c.Node(), key)
}

// hears notes who speaks of the slot seq, for which it was sent p, if that may have to be
// told: what is said is an error, or late.
func (w *witness) hears(s *session, seq uint32, node *upstream.Node, p *upstream.Pending, failed bool) {
	if !s.slots.holds(seq) {
		return
	}
	if sl := s.slots.at(seq); failed || sl.lane != nil && sl.lane.group.Micros()-sl.began+sl.waited >= w.slow {
		w.about(s, seq, node, w.keyOf(p))
	}
}

// keyOf is the key of p as placement sees it.
func (w *witness) keyOf(p *upstream.Pending) []byte {
	if len(p.Key()) == 0 {
		return nil
	}
	return p.Route(w.coded[:])
}

// fails notes the error that the slot seq is answered with.
func (w *witness) fails(s *session, seq uint32, line []byte) {
	if w.session != s || w.seq != seq {
		w.about(s, seq, nil, nil)
	}
	w.said = append(w.said[:0], line...)
}

// judge logs the slot seq, which has been answered at the time now, if it is one for the log
// and the log takes it.
func (w *witness) judge(s *session, seq uint32, sl *slot, now uint32) {
	took, failed := now-sl.began+sl.waited, sl.result == ResultError
	if took < w.slow && !failed || s.own() {
		return
	}
	if took >= w.slow {
		s.count.Slow++
	}
	log := s.loop.srv.log
	ok, withheld := w.lines.may(time.Since(s.loop.srv.started))
	switch {
	case !ok:
		s.count.Withheld++
	case failed:
		log.Warn("failed request", w.tell(s, seq, sl, now, withheld)...)
	default:
		log.Warn("slow request", w.tell(s, seq, sl, now, withheld)...)
	}
}

// tell is what is known of the slot seq.
func (w *witness) tell(s *session, seq uint32, sl *slot, now uint32, withheld uint64) (all []any) {
	word := sl.op
	if s.binary() {
		word = sl.asked.Opcode.Word()
	}
	all = append(all, slog.String("command", word.String()))
	if sl.lane != nil && len(s.loop.lanes) > 1 {
		all = append(all, slog.String("pool", sl.lane.conf.Name))
	}
	said := []byte(nil)
	if w.session == s && w.seq == seq {
		if key, ok := w.logged(); ok {
			all = append(all, slog.String("key", key))
		}
		if node := w.slowest(s, sl, now); node != nil {
			all = append(all, slog.String("node", node.Name))
		}
		said = w.said
	}
	if len(said) == 0 && sl.result == ResultError && sl.out != nil {
		said = sl.out.B // of a write
	}
	if why, _, _ := bytes.Cut(said, []byte("\r\n")); len(why) > 0 {
		all = append(all, slog.String("cause", string(why)))
	} else if sl.moved != upstream.CauseNone {
		all = append(all, slog.String("cause", sl.moved.String()))
	}
	all = append(all, slog.Duration("took", micro(now-sl.began+sl.waited)), slog.Duration("wait", micro(sl.waited)))
	if sl.led == 0 {
		all = append(all, slog.Duration("at_node", micro(now-sl.began)))
	} else {
		all = append(all, slog.Duration("at_lead", micro(sl.led-sl.began)), slog.Duration("at_followers", micro(now-sl.led)))
	}
	all = append(all, s.whose()...)
	if withheld > 0 {
		all = append(all, slog.Uint64("withheld", withheld))
	}
	return all
}

// slowest is the node that the request of sl has waited for, or for longer than for others.
func (w *witness) slowest(s *session, sl *slot, now uint32) *upstream.Node {
	if sl.led == 0 || sl.lane == nil || len(w.key) == 0 || now-sl.led > sl.led-sl.began {
		return w.node
	}
	pool := sl.lane.pool
	return pool.Nodes[pool.Replica(int(sl.copy), w.key)]
}

// logged is the key as it is logged; false if it is not.
func (w *witness) logged() (key string, ok bool) {
	switch {
	case len(w.key) == 0 || w.keys == config.KeysNone:
		return "", false
	case w.keys == config.KeysPlain:
		return string(w.key), true
	}
	sum := sha256.Sum256(w.key)
	return hex.EncodeToString(sum[:8]), true
}

// whose is who asked, and how much of what it was sent it has not read.
func (s *session) whose() (all []any) {
	if s.wire == nil {
		return nil
	}
	if c, ok := s.socket(); ok && c.RemoteAddr() != nil {
		all = append(all, slog.String("client", c.RemoteAddr().String()))
	}
	return append(all, slog.Int("unread", s.wire.OutboundBuffered()))
}

func micro(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
