package server

import (
	"io"
	"strings"
	"testing"
)

// gated closes the loop's gate and returns what it says when it is drained.
func (w *world) gated() chan struct{} {
	drained := make(chan struct{}, 1)
	w.loop.do(func() { w.lane.closeGate(drained) })
	w.settle()
	return drained
}

func (w *world) ungated(drained chan struct{}) {
	w.loop.do(func() { w.lane.openGate(drained) })
	w.settle()
}

// say has a client send text, whose | are ends of lines.
func (w *world) say(client, text string) {
	w.client(client).traffic([]byte(strings.ReplaceAll(text, "|", "\r\n")))
	w.settle()
}

// answers has a node send text, and returns what the node was sent before.
func (w *world) answers(node, text string) (asked string) {
	c := w.node(node).conn
	asked = strings.ReplaceAll(c.sent(), "\r\n", "|")
	c.traffic([]byte(strings.ReplaceAll(text, "|", "\r\n")))
	w.settle()
	return asked
}

func (w *world) expect(what, got, want string) {
	w.t.Helper()
	if got = strings.ReplaceAll(got, "\r\n", "|"); got != want {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A closed gate holds back what changes items, whatever part of it has come, and
// nothing else. It is drained when all that was under way is done, and its effects too.
func TestGate(t *testing.T) {
	for verb, request := range map[string]string{
		"set": "set k1 0 0 1|b|", "delete": "delete k1|", "incr": "incr k1 1|", "gat": "gat 9 k1|", "mg": "mg k1 T9|",
		"mg N": "mg k1 N9|", "flush_all": "flush_all|", "the value": "",
	} {
		w := newWorld(t, nil, 1, 1)
		w.start()
		if request == "" {
			w.say("late", "set k1 0 0 1|")
			request = "b|"
		}
		w.say("early", "set k1 0 0 1|a|")
		drained := w.gated()
		w.say("late", request)
		w.say("reader", "get k1|")
		w.expect(verb+": p1 is sent", w.answers("p1", "HD c1|END|"), "ms k1 1 F0 T0 c|a|get k1|")
		w.expect(verb+": the reader is sent", w.client("reader").sent(), "END|")
		w.expect(verb+": b1 is sent", w.answers("b1", "HD c1|"), "ms k1 1 F0 T0 c|a|")
		w.expect(verb+": the early one is sent", w.client("early").sent(), "STORED|")
		select {
		case <-drained:
			t.Errorf("%s: drained, although the lead was asked again", verb)
		default:
		}
		w.expect(verb+": p1 is looked at", w.answers("p1", "HD c1 t-1 kk1|"), "mg k1 c t u k|")
		select {
		case <-drained:
		default:
			t.Errorf("%s: not drained", verb)
		}
		w.tick()
		if sent := w.node("p1").conn.sent() + w.node("b1").conn.sent(); sent != "" {
			t.Errorf("%s: behind a closed gate the nodes are sent %q", verb, sent)
		}
		w.ungated(drained)
		if w.node("p1").conn.sent()+w.node("b1").conn.sent() == "" {
			t.Errorf("%s: nothing is sent when the gate is open", verb)
		}
	}
}

// Two nodes that come back have the gate closed twice. Who is done opens one.
func TestGateIsClosedTwice(t *testing.T) {
	w := newWorld(t, nil, 1, 1)
	w.start()
	w.say("client", "set k1 0 0 1|a|")
	first, second := w.gated(), w.gated()
	w.say("client", "set k1 0 0 1|b|")
	w.ungated(first) // its patience is over
	w.expect("p1 is sent", w.answers("p1", "HD c1|"), "ms k1 1 F0 T0 c|a|")
	w.answers("b1", "HD c1|")
	w.answers("p1", "HD c1 t-1 kk1|")
	select {
	case <-first:
		t.Error("who has gone is told")
	default:
	}
	<-second
	w.ungated(second)
	w.expect("p1 is sent", w.node("p1").conn.sent(), "ms k1 1 F0 T0 c|b|")
}

// A value that has come whole and waits at the gate is input that waits: a client that
// has shut down its sending side, or is drained, gets its answer.
func TestGateAndTheEndOfInput(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"half-closed": func(w *world) { w.client("client").end(io.EOF) },
		"drained":     func(w *world) { w.loop.drain(); w.loop.settle() },
	} {
		w := newWorld(t, nil, 1, 1)
		w.start()
		w.say("client", "set k1 0 0 1|")
		drained := w.gated()
		w.say("client", "b|")
		end(w)
		w.settle()
		w.tick()
		w.ungated(drained)
		w.expect(name+": p1 is sent", w.answers("p1", "HD c1|"), "ms k1 1 F0 T0 c|b|")
		w.expect(name+": b1 is sent", w.answers("b1", "HD c1|"), "ms k1 1 F0 T0 c|b|")
		w.answers("p1", "HD c1 t-1 kk1|")
		w.tick()
		w.expect(name+": the client is sent", w.client("client").sent(), "STORED|")
	}
}
