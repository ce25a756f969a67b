package text

import (
	"strings"
	"testing"
)

func TestLoginSize(t *testing.T) {
	for line, want := range map[string]int{
		"set a 0 0 7\r\n": 7, "set a 0 0 7\n": 7, "set  a  x x  7 noreply\r\n": 7, " set a 0 0 7 1 2 3\r\n": 7, "set a 0 0 0\r\n": 0,
		"set " + strings.Repeat("k", 300) + " 0 0 4294967295\r\n": 4294967295,
		"set a 0 0\r\n": -1, "set a 0 0 \r\n": -1, "set a 0 0 -1\r\n": -1, "set a 0 0 x\r\n": -1, "set a 0 0 7x\r\n": -1, "set a 0 0 4294967296\r\n": -1,
		"set a 0 0 99999999999999999999\r\n": -1, "sets a 0 0 7\r\n": -1, "SET a 0 0 7\r\n": -1, "set\ta 0 0 7 1\r\n": -1, "get a 0 0 7\r\n": -1, "\r\n": -1, "set": -1, "": -1,
	} {
		size, ok := LoginSize([]byte(line))
		if !ok {
			size = -1
		}
		if size != want {
			t.Errorf("%.30q says %d bytes, want %d", line, size, want)
		}
	}
}

func TestLogin(t *testing.T) {
	for value, want := range map[string]string{
		"foo bar": "foo/bar", " foo  bar baz ": "foo/bar", "a b:c d": "a/b:c",
		"foo": "", "foo ": "", " ": "", "": "", "foo:bar": "",
	} {
		name, password, ok := Login([]byte(value))
		if got := string(name) + "/" + string(password); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %s, %v, want %s", value, got, ok, want)
		}
	}
}
