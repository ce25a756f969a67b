package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is one line of the log that tells of a change.
type Event struct {
	Number uint64    `json:"number"` // 1 for the first of all
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`           // what has changed: a node's state, a refill, and so on: see eventKinds
	What   string    `json:"what"`           // the text of the line
	Pool   string    `json:"pool,omitempty"` // of Node
	Node   string    `json:"node,omitempty"`
	Cause  string    `json:"cause,omitempty"`
	More   string    `json:"more,omitempty"` // what else the line says, name=value
}

// String is e as a line for people.
func (e Event) String() string {
	text := e.At.Local().Format("2006-01-02 15:04:05.000  ") + e.What
	for _, part := range []struct{ before, is string }{{": ", e.Node}, {": ", e.Cause}, {", ", e.More}} {
		if part.is != "" {
			text += part.before + part.is
		}
	}
	return text
}

// eventKinds is the lines of the log that are events: their texts, and the kind of each. The
// others tell of nothing that has changed, or of how something goes on.
var eventKinds = byText(map[string][]string{
	"state":    {"node up", "node slow", "node warming", "node stale", "node down"},
	"failover": {"requests were moved"},
	"refill": {
		"this magent refills a node", "another magent refills a node", "node refilled",
		"a node is not refilled now", "a node is not refilled by hand",
		"keys of a refill that broke off are to be repaired",
		"a node that was refilled is not trusted yet", "a node is not trusted yet",
	},
	"drain": {"drained no longer", "drained still"},
	"address": {
		"giving the address up", "the address has left", "the address was not given up",
		"clients are not kept away while the address moves", "clients are still kept away",
	},
	"ready": {"ready", "not ready"},
	"reload": {
		"reloading the configuration", "a fault in the configuration", "not reloaded: the configuration in force stays",
		"names stand for other addresses", "names are not known any more: nodes stay where they were", "names are known again",
		"read again, as it has changed", "what was read before stays",
	},
	"move": {
		"keys are looked for where they were, too", "keys are no longer looked for where they were",
		"keys are not looked for where they were", "a node is no longer asked for keys that it had",
		"the next process is not told where keys are",
	},
	"process": {
		"listening", "stopping", "restarting in place", "not restarted: this process goes on",
		"another process serves now", "everything was taken over", "not everything was taken over",
		"an event loop stands still, and the service manager will notice",
	},
})

func byText(kinds map[string][]string) map[string]string {
	all := make(map[string]string)
	for kind, texts := range kinds {
		for _, text := range texts {
			all[text] = kind
		}
	}
	return all
}

const (
	keptEvents = 256 // a History has the latest so many
	maxWords   = 256 // bytes of what an Event says in each field
)

// History is the latest events, which it takes from the log. Any goroutine may use it.
type History struct {
	mu     sync.Mutex
	events []Event // oldest first
	last   uint64  // the number of the latest
}

// Events are those after number, oldest first, and the number of the latest; 0: there is
// none.
func (h *History) Events(after uint64) (all []Event, last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, e := range h.events {
		if e.Number > after {
			return slices.Clone(h.events[i:]), h.last
		}
	}
	return nil, h.last
}

// add numbers e and keeps it.
func (h *History) add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e.Number = h.last
	if len(h.events) == keptEvents {
		copy(h.events, h.events[1:])
		h.events = h.events[:keptEvents-1]
	}
	h.events = append(h.events, e)
}

// Save is the history for the process that takes the place of this one.
func (h *History) Save() ([]byte, error) {
	all, _ := h.Events(0)
	return json.Marshal(all)
}

// Load puts what was saved before what there is.
func (h *History) Load(saved []byte) error {
	var before []Event
	if err := json.Unmarshal(saved, &before); err != nil {
		return err
	}
	h.mu.Lock()
	since := h.events
	h.events, h.last = nil, 0
	if len(before) > 0 {
		h.last = before[0].Number - 1
	}
	h.mu.Unlock()
	for _, e := range append(before, since...) {
		h.add(e)
	}
	return nil
}

// Handler is next, and keeps the events among what is logged. They are kept even if next
// does not want them.
func (h *History) Handler(next slog.Handler) slog.Handler { return &listener{history: h, next: next} }

// listener is a slog.Handler.
type listener struct {
	history *History
	next    slog.Handler
	attrs   []slog.Attr // that all lines have
}

// Enabled is slog.Handler's. No event is of a lower level than Info.
func (l *listener) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || l.next.Enabled(ctx, level)
}

// Handle is slog.Handler's.
func (l *listener) Handle(ctx context.Context, r slog.Record) error {
	if kind := eventKinds[r.Message]; kind != "" {
		e := Event{At: r.Time, Kind: kind, What: r.Message}
		for _, a := range l.attrs {
			e.take(a)
		}
		r.Attrs(func(a slog.Attr) bool { e.take(a); return true })
		l.history.add(e)
	}
	if !l.next.Enabled(ctx, r.Level) {
		return nil
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (l *listener) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &listener{l.history, l.next.WithAttrs(attrs), slices.Concat(l.attrs, attrs)}
}

// WithGroup is slog.Handler's.
func (l *listener) WithGroup(name string) slog.Handler {
	return &listener{l.history, l.next.WithGroup(name), l.attrs}
}

// take puts what a line says where it belongs.
func (e *Event) take(a slog.Attr) {
	text := a.Value.String()
	switch a.Key {
	case "pool":
		e.Pool = bounded(text)
	case "node":
		e.Node = bounded(text)
	case "cause":
		e.Cause = bounded(text)
	default:
		if e.More != "" {
			e.More += " "
		}
		e.More = bounded(e.More + a.Key + "=" + text)
	}
}

// bounded is the beginning of text, in valid UTF-8.
func bounded(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxWords)], "") }
