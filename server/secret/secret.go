// Package secret holds what proves who somebody is, as files: users and their
// passwords, what a magent says to its nodes, certificates. A file is read again when
// it has changed.
//
// A File may be used by any goroutine; what it gives is immutable. The package knows
// nothing of connections and imports std only.
package secret

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// File is what was read from some files, and is read again when one of them has changed.
type File[T any] struct {
	read  func() (T, error)
	paths []string
	value atomic.Pointer[T]

	mu     sync.Mutex // guards what follows
	seen   []stamp    // of the files as they were last read, well or not
	failed bool       // they were not, the last time
	looked time.Time
}

// stamp tells a file from what it was, or from what was in its place.
type stamp struct {
	modified   time.Time
	size       int64
	dev, inode uint64
	missing    bool
}

// Open reads the files at paths by read, whose error it returns.
func Open[T any](read func() (T, error), paths ...string) (*File[T], error) {
	f := &File[T]{read: read, paths: paths}
	f.seen = f.stamps() // before they are read: what is written meanwhile will show
	value, err := read()
	if err != nil {
		return nil, err
	}
	f.value.Store(&value)
	return f, nil
}

// Get is what was read last without an error.
func (f *File[T]) Get() T { return *f.value.Load() }

// lookEvery is how often the files are looked at, at most: who asks may do so often.
const lookEvery = time.Second

// Look reads the files again if one has changed since they were last read, or if that
// failed, as the fault need not be the files'; and reports whether they now give something
// else. If they cannot be read, or are of no use, what they gave before stays; that is told
// once for each change. now is the time, by a clock that does not jump; Look does nothing
// within a second of the time before.
func (f *File[T]) Look(now time.Time) (changed bool, err error) {
	if !f.mu.TryLock() {
		return false, nil // somebody else is at it
	}
	defer f.mu.Unlock()
	if !f.looked.IsZero() && now.Sub(f.looked) < lookEvery {
		return false, nil
	}
	f.looked = now
	is := f.stamps()
	told := same(is, f.seen)
	if told && !f.failed {
		return false, nil
	}
	f.seen = is
	value, err := f.read()
	if f.failed = err != nil; f.failed {
		if told {
			err = nil
		}
		return false, err
	}
	f.value.Store(&value)
	return true, nil
}

func (f *File[T]) stamps() []stamp {
	all := make([]stamp, len(f.paths))
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			all[i].missing = true
			continue
		}
		all[i].modified, all[i].size = info.ModTime(), info.Size()
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			all[i].dev, all[i].inode = uint64(sys.Dev), sys.Ino
		}
	}
	return all
}

func same(a, b []stamp) bool {
	for i := range a {
		if !a[i].modified.Equal(b[i].modified) || a[i].size != b[i].size || a[i].dev != b[i].dev || a[i].inode != b[i].inode || a[i].missing != b[i].missing {
			return false
		}
	}
	return true
}
