package server

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// poller stops and resumes reading from a client, which gnet has no call for: a
// client that sends faster than the nodes take would otherwise be buffered
// without end, or have to be closed. The kernel tells which epoll instance a
// loop waits on: /proc/self/fdinfo of an epoll descriptor lists what it watches
// (proc(5)), and one that watches the loop's anchor is the loop's.
type poller struct{ epfd int }

const readEvents = unix.EPOLLIN | unix.EPOLLPRI

// findPoller looks for the epoll descriptor that watches fd.
func findPoller(fd int) (poller, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return poller{-1}, err
	}
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || link != "anon_inode:[eventpoll]" {
			continue
		}
		if watches(e.Name(), fd) {
			var epfd int
			if _, err := fmt.Sscan(e.Name(), &epfd); err == nil {
				return poller{epfd}, nil
			}
		}
	}
	return poller{-1}, fmt.Errorf("no epoll descriptor watches descriptor %d", fd)
}

// watches reports whether the epoll descriptor named epfd has fd in its set.
func watches(epfd string, fd int) bool {
	f, err := os.Open("/proc/self/fdinfo/" + epfd)
	if err != nil {
		return false
	}
	defer f.Close()
	want := fmt.Sprint(fd)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 1 && w[0] == "tfd:" && w[1] == want {
			return true
		}
	}
	return false
}

// pause stops reading from s. gnet may resume it by itself when the client's
// outbound buffer drains; whoever is then fed pauses again. It reports false if
// reading cannot be stopped.
func (l *loop) pause(s *session) bool { return l.poll.set(s, 0) }

// unpause reads from s again.
func (l *loop) unpause(s *session) { l.poll.set(s, readEvents) }

func (p poller) set(s *session, events uint32) bool {
	c, ok := s.socket()
	if !ok || p.epfd < 0 {
		return false
	}
	if c.OutboundBuffered() > 0 {
		events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(p.epfd, unix.EPOLL_CTL_MOD, c.Fd(), &unix.EpollEvent{Fd: int32(c.Fd()), Events: events}) == nil
}
