package binary

import "testing"

func TestPlain(t *testing.T) {
	for message, want := range map[string]string{
		"\x00foo\x00bar": "foo/bar", "foo\x00foo\x00bar": "foo/bar", "\x00foo\x00 b:r ": "foo/ b:r ",
		"x\x00foo\x00bar": "", "\x00foo\x00bar\x00": "", "\x00foo\x00": "", "\x00\x00bar": "", "\x00foo": "", "\x00\x00": "", "\x00": "", "": "", "foo bar": "",
	} {
		name, password, ok := Plain([]byte(message))
		if got := string(name) + "/" + string(password); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %s, %v, want %q", message, got, ok, want)
		}
	}
}
