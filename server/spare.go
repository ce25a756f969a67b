package server

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A process that serves has as many Ps as loops: one more that is idle costs it futex
// calls by the thousand. So what is to be done beside the loops waits for a loop to wait,
// and for the runtime to notice, which may take it 10 ms. That is right for what nobody
// waits for. For the rest there is a P more, as long as it takes.

// spare counts who needs that P.
var spare struct {
	sync.Mutex
	users int
}

// takeSpareP gives the process a P more until giveBack is called. It stops all loops for
// some ten microseconds, and waits for a garbage collection to end: no loop may call it.
func takeSpareP() (giveBack func()) {
	spare.Lock()
	defer spare.Unlock()
	if spare.users++; spare.users == 1 {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	return func() {
		spare.Lock()
		defer spare.Unlock()
		if spare.users--; spare.users == 0 {
			runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
		}
	}
}

// spareFor is takeSpareP for d.
func spareFor(d time.Duration) { time.AfterFunc(d, takeSpareP()) }

// nice is how far what nobody waits for steps back behind the loops, where processors are
// scarce: the kernel's weight of a thread falls to a tenth.
const nice = 10

// stepBack has the calling goroutine run on a thread of its own, which gives way to those
// of the loops, until it ends. (On Linux a thread has a priority of its own: setpriority(2).)
func stepBack() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice) // where it is refused, it is as it was
}
