package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// identity is whom the process becomes once its listeners are open. magent 0.6
// applied -u and -g in the order typed, so that a -u before -g lost the right to
// the latter; here the group always comes first.
type identity struct {
	uid, gid int   // -1: stay
	groups   []int // set if either is
}

// lookupIdentity resolves -u and -g, names or numbers. Becoming who we are is
// nothing to do, and so is -u root for those who are not root: old scripts say
// that without meaning more than not to change.
func lookupIdentity(userText, groupText string) (*identity, error) {
	id := &identity{uid: -1, gid: -1}
	if userText != "" {
		if err := id.lookupUser(userText, groupText != ""); err != nil {
			return nil, err
		}
	}
	if groupText != "" {
		gid, err := lookupGroup(groupText)
		if err != nil {
			return nil, err
		}
		id.gid = gid
		if id.uid < 0 || len(id.groups) == 0 {
			id.groups = []int{gid}
		}
	}
	if id.uid == os.Geteuid() || (id.uid == 0 && os.Geteuid() != 0) {
		id.uid = -1
		if groupText == "" {
			id.gid = -1
		}
	}
	if (id.uid >= 0 || (id.gid >= 0 && id.gid != os.Getegid())) && os.Geteuid() != 0 {
		return nil, errors.New("-u and -g need root: start magent as root, or leave them out")
	}
	return id, nil
}

func (id *identity) lookupUser(text string, groupGiven bool) error {
	u, err := user.Lookup(text)
	if err != nil {
		u, err = user.LookupId(text)
	}
	if err != nil {
		uid, parseErr := strconv.ParseUint(text, 10, 31)
		if parseErr != nil {
			return fmt.Errorf("-u %s: there is no such user", text)
		}
		if !groupGiven {
			return fmt.Errorf("-u %s: no user has this number, so its group is unknown: add -g", text)
		}
		id.uid = int(uid)
		return nil
	}
	if id.uid, err = strconv.Atoi(u.Uid); err != nil {
		return fmt.Errorf("-u %s: %w", text, err)
	}
	if id.gid, err = strconv.Atoi(u.Gid); err != nil {
		return fmt.Errorf("-u %s: %w", text, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("-u %s: cannot list its groups: %w", text, err)
	}
	for _, g := range ids {
		gid, err := strconv.Atoi(g)
		if err != nil {
			return fmt.Errorf("-u %s: group %q: %w", text, g, err)
		}
		id.groups = append(id.groups, gid)
	}
	return nil
}

func lookupGroup(text string) (int, error) {
	g, err := user.LookupGroup(text)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	gid, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("-g %s: there is no such group", text)
	}
	return int(gid), nil
}

// own gives the file of a unix socket to whom assume will make us. A link that stands
// there by now is not followed: its file is none of ours.
func (id *identity) own(a net.Addr) error {
	if os.Geteuid() != 0 || id.uid < 0 || a.Network() != "unix" {
		return nil
	}
	return os.Lchown(a.String(), id.uid, id.gid)
}

// assume becomes id in every thread. There is no way back.
func (id *identity) assume() error {
	if os.Geteuid() != 0 || (id.uid < 0 && id.gid < 0) {
		return nil
	}
	if err := syscall.Setgroups(id.groups); err != nil {
		return fmt.Errorf("cannot set the groups %v: %w", id.groups, err)
	}
	if id.gid >= 0 {
		if err := syscall.Setgid(id.gid); err != nil {
			return fmt.Errorf("cannot become group %d: %w", id.gid, err)
		}
	}
	if id.uid >= 0 {
		if err := syscall.Setuid(id.uid); err != nil {
			return fmt.Errorf("cannot become user %d: %w", id.uid, err)
		}
	}
	return nil
}
