package model

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A value is a line of words: its key, its writer, the writer's number for it, some
// filling, and the checksum of all that in hex.

const sumLength = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendValue appends the value of key that id names, of at least size bytes.
func AppendValue(b []byte, key string, id ID, size int) []byte {
	start := len(b)
	b = append(append(b, key...), ' ')
	b = append(strconv.AppendInt(b, int64(id.Writer), 10), ' ')
	b = append(strconv.AppendInt(b, int64(id.Seq), 10), ' ')
	for i := 0; len(b)-start < size-sumLength-1; i++ {
		b = append(b, byte('a'+(id.Seq+i)%26))
	}
	b = append(b, ' ')
	sum := crc32.Checksum(b[start:], castagnoli)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[sum>>shift&15])
	}
	return b
}

// ParseValue says which value of key b is, or how it is none.
func ParseValue(b []byte, key string) (ID, error) {
	if len(b) <= len(key)+sumLength || string(b[:len(key)]) != key || b[len(key)] != ' ' {
		return ID{}, fmt.Errorf("%.60q is no value of %s", b, key)
	}
	body, rest := b[:len(b)-sumLength], b[len(key)+1:]
	sum, err := strconv.ParseUint(string(b[len(body):]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(body, castagnoli) {
		return ID{}, fmt.Errorf("the %d bytes %.60q… have another checksum", len(b), b)
	}
	var id ID
	for _, n := range []*int{&id.Writer, &id.Seq} {
		word, after, _ := bytes.Cut(rest, []byte{' '})
		if *n, err = strconv.Atoi(string(word)); err != nil {
			return ID{}, fmt.Errorf("%.60q names no writer", b)
		}
		rest = after
	}
	return id, nil
}
