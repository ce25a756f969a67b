package codec

import (
	"strings"
	"testing"
)

func TestOpsAreNamed(t *testing.T) {
	seen := map[string]Op{}
	for op := OpNone + 1; op < NumOps; op++ {
		name := op.String()
		if other, ok := seen[name]; ok || name == "" {
			t.Errorf("op %d is called %q, as is %d", op, name, other)
		}
		seen[name] = op
		if got, ok := OpNamed(name); !ok || got != op {
			t.Errorf("%s is the name of op %d, want %d", name, got, op)
		}
		if op.Meta() != (len(name) == 2 && name[0] == 'm') {
			t.Errorf("%s: Meta is %v", name, op.Meta())
		}
		if op.MultiKey() != (op.Shape() == ShapeValues) {
			t.Errorf("%s takes many keys: %v, answers values: %v", name, op.MultiKey(), op.Shape() == ShapeValues)
		}
	}
}

func TestNoOpIsNamedSo(t *testing.T) {
	for _, name := range []string{"", "GET", "watch", "get "} {
		if op, ok := OpNamed(name); ok {
			t.Errorf("%q is the name of op %d", name, op)
		}
	}
}

func TestFaultsAreLines(t *testing.T) {
	for f := FaultNone; f < numFaults; f++ {
		line := f.Line()
		if f == FaultNone || f == FaultClose {
			if line != "" {
				t.Errorf("fault %d says %q", f, line)
			}
			continue
		}
		if strings.Count(line, "\r\n") != 1 || !strings.HasSuffix(line, "\r\n") || !strings.Contains(line, "ERROR") {
			t.Errorf("fault %d is no error line: %q", f, line)
		}
	}
}

func TestLettersAreDistinct(t *testing.T) {
	var all Letters
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		if all.Has(c) {
			t.Errorf("%c shares a bit with another letter", c)
		}
		all |= Letter(c)
		if !all.Any(Letter(c)) {
			t.Errorf("%c is lost", c)
		}
	}
}

func TestReplySize(t *testing.T) {
	for _, c := range []struct {
		r    Reply
		want int
	}{
		{Reply{Kind: KindLine, Line: 8}, 8},
		{Reply{Kind: KindEnd, Line: 5}, 5},
		{Reply{Kind: KindValue, Line: 13, Value: 0}, 15},
		{Reply{Kind: KindValue, Line: 13, Value: 1<<31 - 3}, 13 + 1<<31 - 1},
	} {
		if got := c.r.Size(); got != c.want {
			t.Errorf("%+v: size %d, want %d", c.r, got, c.want)
		}
	}
}
