package secret

import (
	"bytes"
	"fmt"
)

// Login is who a magent is to its nodes.
type Login struct{ User, Password string }

// OpenLogin opens a file with one user:password in it, as a memcached with -Y takes them.
func OpenLogin(path string) (*File[Login], error) {
	return Open(func() (Login, error) { return readLogin(path) }, path)
}

func readLogin(path string) (Login, error) {
	pairs, err := readPairs(path)
	switch {
	case err != nil:
		return Login{}, err
	case len(pairs) != 1:
		return Login{}, fmt.Errorf("%s has %d users in it, want one", path, len(pairs))
	case bytes.IndexByte(pairs[0].password, ' ') >= 0:
		return Login{}, fmt.Errorf("%s: a node cannot be told a password with a space in it", path)
	}
	return Login{string(pairs[0].name), string(pairs[0].password)}, nil
}
