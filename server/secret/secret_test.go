package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUsers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "foo:bar\r\n\nfoo:new\nalice:two words\nbob:pw:with:colons\nlast:one")
	f, err := OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]bool{
		"foo/bar": true, "foo/new": true, "alice/two words": true, "bob/pw:with:colons": true, "last/one": true,
		"foo/": false, "/bar": false, "foo/ba": false, "foo/bar\r": false, "fo/bar": false, "foo/one": false, "bob/pw": false, "": false, "nobody/bar": false,
	} {
		name, password, _ := strings.Cut(who, "/")
		if got := f.Get().Check([]byte(name), []byte(password)); got != want {
			t.Errorf("%q with %q may come in: %v", name, password, got)
		}
	}
}

// What is wrong with a file is said without what is in it.
func TestUsersThatAreNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	for text, want := range map[string]string{
		"":                                       "has no user in it",
		"\n\n":                                   "has no user in it",
		"foo:bar\nsecret":                        "line 2: want user:password",
		":secret":                                "line 1: the user or the password is missing",
		"secret:":                                "line 1: the user or the password is missing",
		"a secret:x":                             "a space in the name",
		"secret:a\x00b":                          "there is a NUL in it",
		"foo:" + strings.Repeat("secret", 50):    "more than 255 bytes",
		strings.Repeat("foo:secret\n", 1<<20/10): "more than 1048576 bytes",
	} {
		write(t, path, text)
		_, err := OpenUsers(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20q gives %v, want %s", text, err, want)
		}
	}
	if _, err := OpenUsers(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error("no file gives", err)
	}
}

func TestLogin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "login")
	for text, want := range map[string]string{
		"foo:b:r\n": "", "a:b\nc:d\n": "has 2 users in it, want one", "": "has 0 users", "foo:two words": "a space in it", "foo": "line 1: want user:password",
	} {
		write(t, path, text)
		f, err := OpenLogin(path)
		switch {
		case want == "" && (err != nil || f.Get() != Login{"foo", "b:r"}):
			t.Errorf("%q gives %v, %v", text, f, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

// A file is read again when it has changed, at most once a second; one that has become of
// no use is told of once, and changes nothing.
func TestFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "foo:bar")
	f, err := OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	look := func(after time.Duration, changes, fails bool) {
		t.Helper()
		now = now.Add(after)
		if changed, err := f.Look(now); changed != changes || (err != nil) != fails {
			t.Errorf("it has changed: %v, and the error is %v", changed, err)
		}
	}
	may := func(password string) {
		t.Helper()
		for _, p := range []string{"bar", "second", "third one"} {
			if f.Get().Check([]byte("foo"), []byte(p)) != (p == password) {
				t.Errorf("the password is not %s", password)
			}
		}
	}
	look(0, false, false)
	write(t, path, "foo:second")
	look(lookEvery/2, false, false)
	may("bar")
	look(lookEvery/2, true, false)
	may("second")
	write(t, path, "no user")
	look(lookEvery, false, true)
	look(lookEvery, false, false)
	may("second")
	os.Remove(path)
	look(lookEvery, false, true)
	look(lookEvery, false, false)
	may("second")
	next := path + ".next" // moved there, as who is careful does
	write(t, next, "foo:third one")
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	look(lookEvery, true, false)
	may("third one")
}

// What cannot be read for reasons of its reader's is read again, although it does not change.
func TestReadingThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "a")
	var fault error
	f, err := Open(func() (string, error) {
		text, err := os.ReadFile(path)
		return string(text), errors.Join(err, fault)
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	look := func(changes bool, fails error, want string) {
		t.Helper()
		now = now.Add(lookEvery)
		if changed, err := f.Look(now); changed != changes || !errors.Is(err, fails) || f.Get() != want {
			t.Errorf("%q; it has changed: %v, and the error is %v", f.Get(), changed, err)
		}
	}
	fault = syscall.EMFILE
	look(false, nil, "a")
	write(t, path, "of another size")
	look(false, syscall.EMFILE, "a")
	look(false, nil, "a")
	fault = nil
	look(true, nil, "of another size")
	look(false, nil, "of another size")
}
