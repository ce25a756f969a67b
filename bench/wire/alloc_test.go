//go:build !race

package wire

import (
	"fmt"
	"testing"

	"magent/bench/keys"
)

// This file is built without the race detector, which allocates on its own account.

// A request and its reply allocate nothing, however the reply is cut: once the lines
// cut in two have had their buffer.
func TestNothingAllocates(t *testing.T) {
	s := keys.NewSpace(keys.Config{MaxValue: 100})
	for _, d := range []Dialect{Text, Meta, Binary} {
		for op := range Op(Ops) {
			multi := 1
			if op == Get || op == Gets {
				multi = 20
			}
			reqs, replies := exchanges(s, d, op, multi, 100, 1)
			no := []byte("SERVER_ERROR gone\r\n")
			if d == Binary {
				no = []byte(refusal(&reqs[0], 0x84, "gone"))
			}
			for name, reply := range map[string][]byte{"as it should be": replies[0], "an error": no} {
				switch {
				case multi == 1 || name != "an error":
				case d == Meta:
					reply = append(reply, "MN\r\n"...)
				case d == Binary:
					reply = append(reply, lastPacket(&reqs[0], multi)...)
				}
				for _, step := range []int{1, 7, len(reply)} {
					e, sc := Encoder{Space: s, Dialect: d}, Scanner{Space: s, Dialect: d}
					dst := make([]byte, 0, 4096)
					ended := 0
					allocs := testing.AllocsPerRun(10, func() {
						e.Append(dst, &reqs[0])
						for at := 0; at < len(reply); at += step {
							_, _, done, err := sc.Next(reply[at:min(at+step, len(reply))], &reqs[0])
							if err != nil {
								t.Fatal(err)
							}
							if done {
								ended++
							}
						}
					})
					what := fmt.Sprintf("%s %s, answered %s, in pieces of %d", d, op, name, step)
					if allocs != 0 || ended != 11 {
						t.Errorf("%s: %v allocations, want 0; %d replies of 11", what, allocs, ended)
					}
				}
			}
		}
	}
}
