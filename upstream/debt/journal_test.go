package debt

import (
	"fmt"
	"testing"
)

// The numbers of the blocks start from 0 again after 65535.
func TestBlockNumbersWrap(t *testing.T) {
	const keys, held = 20_000, 2500
	j := NewJournal(held, 1<<20)
	j.base = 1<<16 - 2
	first := 0
	for i := range keys {
		if j.Len() == held {
			if key, _, ok := j.Next(); !ok || string(key) != fmt.Sprintf("%0100d", first) {
				t.Fatalf("%q came out, want %d", key, first)
			}
			first++
		}
		for range 2 {
			j.Note(fmt.Appendf(nil, "%0100d", i), false)
		}
		if want := min(i+1, held); j.Len() != want || j.Overflowed() {
			t.Fatalf("%d keys, want %d", j.Len(), want)
		}
	}
	if j.base == 0 || j.base > 1000 {
		t.Errorf("the first block has the number %d", j.base)
	}
}

func TestNoMoreBlocksThanNumbers(t *testing.T) {
	j := NewJournal(10, 1000)
	j.blocks = make([][]byte, maxBlocks)
	j.blocks[maxBlocks-1] = make([]byte, blockSize)
	if j.room(1) {
		t.Error("a block has a number that is another's")
	}
	if j.Note([]byte("k"), false); !j.Overflowed() {
		t.Error("a key that has no place is not missed")
	}
}

// BenchmarkGrow is the most that a Note has to do before there are 786 thousand keys.
func BenchmarkGrow(b *testing.B) {
	var full shard
	for i := range uint64(3072) {
		full.grow()
		full.insert(newSlot(i*0x9e3779b97f4a7c15>>32, place(i+1)))
	}
	b.Run(fmt.Sprintf("slots=%d", len(full.slots)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s := full
			s.grow()
		}
	})
}
