package main

import (
	"bytes"
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How a file is watched: editors put another in its place, Kubernetes a link in that of its
// directory, and some write in it a part at a time. So it is its directories that are watched,
// after any event there the text is read, and what counts is that it is another, and the same
// in two looks.
const (
	settling = 200 * time.Millisecond // from the first event to the first look
	steady   = 100 * time.Millisecond // between two looks
)

// watcher watches one file.
type watcher struct {
	path   string
	events *fsnotify.Watcher
	told   []byte // the last text that change was told of
	seen   []byte // the text at the last look; nil: there was none
	change func() // tells that there is another text
}

// watchFile calls change whenever the file at path has another text than before, which is text
// at first, until ctx ends.
func watchFile(ctx context.Context, path string, text []byte, change func()) error {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	w := &watcher{path: path, events: events, told: text, change: change}
	if err := events.Add(filepath.Dir(path)); err != nil {
		events.Close()
		return err
	}
	go w.run(ctx)
	return nil
}

func (w *watcher) run(ctx context.Context) {
	defer w.events.Close()
	timer := time.NewTimer(0) // it may have changed before it was watched
	waits := true
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-w.events.Events:
			if !open {
				return
			}
			if !waits && w.concerns(e) {
				timer.Reset(settling)
				waits = true
			}
		case _, open := <-w.events.Errors:
			if !open {
				return
			}
			if !waits { // events may have been lost
				timer.Reset(settling)
				waits = true
			}
		case <-timer.C:
			if waits = w.look(); waits {
				timer.Reset(steady)
			}
		}
	}
}

// concerns reports whether e may be of the file: what is written to others is not.
func (w *watcher) concerns(e fsnotify.Event) bool {
	return e.Has(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) || filepath.Base(e.Name) == filepath.Base(w.path) || e.Name == w.target()
}

// target is the file itself, where path is a link.
func (w *watcher) target() string {
	target, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return w.path
	}
	return target
}

// look reads the file, and tells of another text that it has found twice. again is that it is
// to look again.
func (w *watcher) look() (again bool) {
	_ = w.events.Add(filepath.Dir(w.target())) // it may be another by now
	text, err := readFile(w.path)
	if err != nil { // it is about to come back, which is an event
		w.seen = nil
		return false
	}
	if bytes.Equal(text, w.told) {
		w.seen = nil
		return false
	}
	if w.seen == nil || !bytes.Equal(text, w.seen) {
		w.seen = text
		return true
	}
	w.told, w.seen = text, nil
	w.change()
	return false
}
