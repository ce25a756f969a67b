package secret

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
)

// Users is who may come in. The passwords themselves are not kept.
type Users struct {
	key []byte // of the digests, and this process's own
	all []user
}

// user is digests of a name and a password.
type user struct{ name, password [sha256.Size]byte }

// maxFile bounds a file of users, in bytes.
const maxFile = 1 << 20

// OpenUsers opens a file of users in memcached's form (-Y): a name, a colon and a
// password on each line. A password may have colons in it, and spaces, which a client of
// the text protocol cannot say. A name may stand there twice, with an old password and a
// new one. Empty lines do not count. Errors name the line and do not say what is on it.
func OpenUsers(path string) (*File[*Users], error) {
	return Open(func() (*Users, error) { return readUsers(path) }, path)
}

func readUsers(path string) (*Users, error) {
	pairs, err := readPairs(path)
	if err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s has no user in it", path)
	}
	u := &Users{key: make([]byte, sha256.Size)}
	_, _ = rand.Read(u.key) // it never fails
	for _, p := range pairs {
		u.all = append(u.all, user{u.digest(p.name), u.digest(p.password)})
	}
	return u, nil
}

// pair is a name and a password.
type pair struct{ name, password []byte }

func readPairs(path string) (pairs []pair, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	number := 0
	for line := range bytes.SplitSeq(text, []byte{'\n'}) {
		number++
		if line = bytes.TrimSuffix(line, []byte{'\r'}); len(line) == 0 {
			continue
		}
		p, err := parsePair(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// maxName bounds a name and a password, in bytes.
const maxName = 255

func parsePair(line []byte) (pair, error) {
	name, password, ok := bytes.Cut(line, []byte{':'})
	switch {
	case !ok:
		return pair{}, errors.New("want user:password")
	case len(name) == 0, len(password) == 0:
		return pair{}, errors.New("the user or the password is missing")
	case len(name) > maxName, len(password) > maxName:
		return pair{}, fmt.Errorf("the user or the password has more than %d bytes", maxName)
	case bytes.IndexByte(line, 0) >= 0, bytes.IndexByte(name, ' ') >= 0:
		return pair{}, errors.New("there is a NUL in it, or a space in the name")
	}
	return pair{name, password}, nil
}

func (u *Users) digest(b []byte) (d [sha256.Size]byte) {
	h := hmac.New(sha256.New, u.key)
	h.Write(b)
	h.Sum(d[:0])
	return d
}

// Check reports whether name has this password. How long it takes tells nothing of
// either: all users are compared, and by digests, which are of one length.
func (u *Users) Check(name, password []byte) bool {
	n, p := u.digest(name), u.digest(password)
	found := 0
	for i := range u.all {
		found |= subtle.ConstantTimeCompare(n[:], u.all[i].name[:]) & subtle.ConstantTimeCompare(p[:], u.all[i].password[:])
	}
	return found == 1
}
