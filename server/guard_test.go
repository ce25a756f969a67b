package server

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/server/secret"
)

// openUsers is a file of users.
func openUsers(t testing.TB, users ...string) *secret.File[*secret.Users] {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(strings.Join(users, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := secret.OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// guarded is a site whose magents ask who a client is; the file of its users is returned.
func guarded(t *testing.T, users string) (at *site, path string) {
	t.Helper()
	at = newSite(t, 1)
	path = filepath.Join(t.TempDir(), "users")
	at.cfg.Access.AuthFile = path
	at.write(path, users)
	return at, path
}

func (at *site) write(path, text string) {
	at.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		at.t.Fatal(err)
	}
}

const known, unknown, stranger = "STORED", "CLIENT_ERROR authentication failure", "CLIENT_ERROR unauthenticated"

// told is the line that c is told when it says request.
func (c *caller) told(request string) string {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c.conn, request+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// login has c say who it is, and returns the answer.
func (c *caller) login(user, password string) string {
	c.t.Helper()
	return c.told(fmt.Sprintf("set login 0 0 %d\r\n%s %s", len(user)+len(password)+1, user, password))
}

// Who comes when the file has changed is asked for what is there now; who is in stays.
func TestUsersChange(t *testing.T) {
	t.Parallel()
	at, path := guarded(t, "foo:bar")
	s := at.magent()
	c := s.caller(t)
	if got := c.login("foo", "bar"); got != known {
		t.Fatalf("%q", got)
	}
	at.write(path, "no user is in here")
	at.write(path, "foo:other")
	eventually(t, "the new password is asked for", func() bool { return s.caller(t).login("foo", "bar") == unknown })
	if got := s.caller(t).login("foo", "other"); got != known {
		t.Errorf("%q", got)
	}
	c.wants("set k 0 0 7\r\nfoo bar", "STORED")
	c.wants("get k", "VALUE k 0 7")
	if snap := s.Snapshot(); snap.Authenticated < 2 || snap.Denied != 1 {
		t.Errorf("%d and %d are counted", snap.Authenticated, snap.Denied)
	}
}

// Who is known to a magent is known to the one that takes its place, and nobody else.
func TestKnownClientsAreGivenAway(t *testing.T) {
	t.Parallel()
	at, _ := guarded(t, "foo:bar")
	old := at.magent()
	in, out, half := old.caller(t), old.caller(t), old.caller(t)
	in.login("foo", "bar")
	in.wants("set k 0 0 1\r\n1", "STORED")
	for _, c := range []*caller{out, half} {
		if got := c.told("get k"); got != stranger {
			t.Errorf("%q", got)
		}
	}
	due := old.Snapshot().BytesIn + uint64(len("set a 0 0 7\r\nfoo"))
	io.WriteString(half.conn, "set a 0 0 7\r\nfoo")
	eventually(t, "all has been read", func() bool { return old.Snapshot().BytesIn == due })
	s, ours, theirs := at.successor(old)
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		t.Fatal(err)
	}
	in.wants("get k", "VALUE k 0 1")
	if got := out.told("get k"); got != stranger {
		t.Errorf("%q", got)
	}
	half.wants(" bar", "STORED")
	half.wants("get k", "VALUE k 0 1")
}
