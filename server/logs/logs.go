// Package logs is a log that nobody waits for: a slog.Handler that hands its lines to a
// goroutine of its own, which writes them. An event loop may log to it, whatever the file
// or the pipe at the other end does.
//
// Any goroutine may use a Handler. It imports std only.
package logs

import (
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// Format is how a line is written.
type Format string

const (
	Text Format = "text" // key=value, for people
	JSON Format = "json" // an object, for programs; a duration is a number of seconds
)

// queued is how many lines may wait to be written. More are lost: whoever reads them is
// that far behind, or has gone.
const queued = 1024

// Handler is a slog.Handler that never waits for its writer.
type Handler struct {
	slog.Handler
	queue *queue
}

// queue is the lines on their way.
type queue struct {
	to    io.Writer
	lines chan []byte
	flush chan chan<- struct{} // who wants to know when all before is written
	over  chan struct{}        // closed by Close
	log   *slog.Logger         // of the goroutine's own lines, which it writes itself
	lost  atomic.Uint64        // lines that found no room
	total atomic.Uint64        // the same, ever
}

// New is a handler whose goroutine writes to to, one line at a time, until Close. Lines
// below level are not written.
func New(to io.Writer, f Format, level slog.Leveler) *Handler {
	q := &queue{to: to, lines: make(chan []byte, queued), flush: make(chan chan<- struct{}), over: make(chan struct{})}
	q.log = slog.New(format(to, f, level))
	go q.run()
	return &Handler{format(q, f, level), q}
}

func format(to io.Writer, f Format, level slog.Leveler) slog.Handler {
	if f == JSON {
		return slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level, ReplaceAttr: seconds})
	}
	return slog.NewTextHandler(to, &slog.HandlerOptions{Level: level})
}

// seconds has durations be numbers.
func seconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
	}
	return a
}

// Write takes a line, which is copied, or counts it as lost.
func (q *queue) Write(line []byte) (int, error) {
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.lost.Add(1)
		q.total.Add(1)
	}
	return len(line), nil
}

// run writes the lines, in the order that they came.
func (q *queue) run() {
	for {
		select {
		case line := <-q.lines:
			q.write(line)
		case done := <-q.flush:
			for more := true; more; {
				select {
				case line := <-q.lines:
					q.write(line)
				default:
					more = false
				}
			}
			close(done)
		case <-q.over:
			return
		}
	}
}

// write writes one line, and says how many found no room of late. What cannot be written
// is nobody's loss but the reader's.
func (q *queue) write(line []byte) {
	_, _ = q.to.Write(line)
	if lost := q.lost.Swap(0); lost > 0 {
		q.log.Warn("lines of the log were lost", "lines", lost)
	}
}

// WithAttrs is the handler for lines that all have attrs.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.Handler.WithAttrs(attrs), h.queue}
}

// WithGroup is the handler for lines whose attributes are those of a group.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.Handler.WithGroup(name), h.queue}
}

// Lost is how many lines were lost so far as they were not written fast enough.
func (h *Handler) Lost() uint64 { return h.queue.total.Load() }

// Close returns when what was logged before is written, or after patience with an error,
// and ends the goroutine. What is logged after it is lost. It must be called once.
func (h *Handler) Close(patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	defer close(h.queue.over)
	done := make(chan struct{})
	for ask := h.queue.flush; ; ask = nil {
		select {
		case ask <- done:
		case <-done:
			return nil
		case <-late.C:
			return fmt.Errorf("the log was not written within %v", patience)
		}
	}
}
