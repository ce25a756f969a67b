package codectest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Packet is a request or a response of the binary protocol, in copies.
type Packet struct {
	Magic, Opcode    byte
	Status           uint16 // of a response
	Opaque           uint32
	Cas              uint64
	Extras, Key      string
	Value            string // as much of it as is there
	Short            int    // how much of it is not
	Contradicts      bool   // the lengths say so; then nothing but Opcode and Opaque is there
	BeforeValue, All int    // bytes before the value, and of it all
}

// ReadPacket reads the packet at the front of buf; false if it is not there up to its value.
func ReadPacket(buf []byte) (p Packet, ok bool) {
	var h struct {
		Magic, Opcode byte
		Key           uint16
		Extras, Type  byte
		Status        uint16
		Body, Opaque  uint32
		Cas           uint64
	}
	if binary.Read(bytes.NewReader(buf), binary.BigEndian, &h) != nil {
		return p, false
	}
	before := int(h.Extras) + int(h.Key)
	rest := buf[24:]
	if len(rest) < before {
		return p, false
	}
	p = Packet{Magic: h.Magic, Opcode: h.Opcode, Status: h.Status, Opaque: h.Opaque, Cas: h.Cas, BeforeValue: 24 + before}
	if int(h.Body) < before {
		p.Contradicts = true
		return p, true
	}
	value := rest[before:min(len(rest), int(h.Body))]
	p.Extras, p.Key, p.Value = string(rest[:h.Extras]), string(rest[h.Extras:before]), string(value)
	p.All = 24 + int(h.Body)
	p.Short = p.All - p.BeforeValue - len(value)
	return p, true
}

// What memcached 1.6.18 says to requests that it does not carry out.
const (
	BinaryUnknown = "unknown" // and goes on behind it
	BinaryKey     = "key"     // not memcached's: invalid, and goes on, for a key that no line can say
	BinaryLengths = "lengths" // unknown, and closes
	BinaryInvalid = "invalid" // invalid arguments, and closes
	BinaryHuge    = "huge"    // closes
)

// binaryForms is each command's word in text, how many bytes of extras it has, and
// which of extras (e), key (k) and value (v) it must (capital) or may have.
var binaryForms = map[byte]struct {
	word   string
	extras int
	parts  string
}{
	0x00: {"get", 0, "K"}, 0x09: {"getq", 0, "K"}, 0x0c: {"get", 0, "K"}, 0x0d: {"getq", 0, "K"},
	0x1c: {"touch", 4, "EK"}, 0x1d: {"gat", 4, "EK"}, 0x1e: {"gatq", 4, "EK"}, 0x23: {"gat", 4, "EK"}, 0x24: {"gatq", 4, "EK"},
	0x01: {"set", 8, "EKv"}, 0x02: {"add", 8, "EKv"}, 0x03: {"replace", 8, "EKv"}, 0x0e: {"append", 0, "Kv"}, 0x0f: {"prepend", 0, "Kv"},
	0x11: {"setq", 8, "EKv"}, 0x12: {"addq", 8, "EKv"}, 0x13: {"replaceq", 8, "EKv"}, 0x19: {"appendq", 0, "Kv"}, 0x1a: {"prependq", 0, "Kv"},
	0x04: {"delete", 0, "K"}, 0x14: {"deleteq", 0, "K"},
	0x05: {"incr", 20, "EK"}, 0x06: {"decr", 20, "EK"}, 0x15: {"incrq", 20, "EK"}, 0x16: {"decrq", 20, "EK"},
	0x08: {"flush_all", 4, "e"}, 0x18: {"flush_allq", 4, "e"}, 0x10: {"stats", 0, "k"},
	0x0a: {"noop", 0, ""}, 0x0b: {"version", 0, ""}, 0x07: {"quit", 0, ""}, 0x17: {"quitq", 0, ""},
	0x20: {"", 0, ""}, 0x21: {"", 0, "Kv"}, 0x22: {"", 0, "Kv"},
}

// BinaryRequest says of a request what it is as a line of text, or why it is none.
func BinaryRequest(p Packet) (line, fault string) {
	f, known := binaryForms[p.Opcode]
	size := p.Short + len(p.Value)
	lacks := func(part string, has bool) bool {
		may, must := strings.Contains(f.parts, part), strings.Contains(f.parts, strings.ToUpper(part))
		return has && !may && !must || !has && must
	}
	switch {
	case p.Contradicts:
		return "", BinaryLengths
	case len(p.Key) > maxKey:
		return "", BinaryInvalid
	case size > maxValue:
		return "", BinaryHuge
	case !known:
		return "", BinaryUnknown
	case lacks("e", p.Extras != ""), p.Extras != "" && len(p.Extras) != f.extras, lacks("k", p.Key != ""), lacks("v", size > 0):
		return "", BinaryInvalid
	case f.word == "":
		return "", BinaryUnknown
	}
	return binaryLine(strings.TrimSuffix(f.word, "q"), strings.HasSuffix(f.word, "q"), p, size)
}

// number is the number of that size at that place of the extras.
func (p Packet) number(at, size int) uint64 {
	v, _ := strconv.ParseUint(fmt.Sprintf("%x", p.Extras[at:at+size]), 16, 64)
	return v
}

// binaryLine writes the line for a command in its right shape.
func binaryLine(word string, quiet bool, p Packet, size int) (line, fault string) {
	key, coded := p.Key, strings.ContainsFunc(p.Key, func(r rune) bool { return r <= ' ' })
	b, cas := "", ""
	if coded {
		key, b = base64.StdEncoding.EncodeToString([]byte(p.Key)), " b"
		if len(key) > maxKey && word != "stats" {
			return "", BinaryKey
		}
	}
	if p.Cas != 0 {
		cas = fmt.Sprint(" C", p.Cas)
	}
	number, time := p.number, func(at int) string { return fmt.Sprint(min(p.number(at, 4), 1<<31-1)) }
	says, tail := " v c", " O"+key[max(0, len(key)-31):]
	if quiet {
		says = ""
	}
	if !coded {
		tail = " k"
	}
	switch word {
	case "get":
		if !coded {
			return key, ""
		}
		return fmt.Sprintf("mg %s b v f c%s\r\n", key, tail), ""
	case "gat":
		if !coded {
			return fmt.Sprintf("gats %s %s\r\n", time(0), key), ""
		}
		return fmt.Sprintf("mg %s b v f c T%s%s\r\n", key, time(0), tail), ""
	case "touch":
		return fmt.Sprintf("mg %s%s f c T%s%s\r\n", key, b, time(0), tail), ""
	case "set", "add", "replace", "append", "prepend":
		line = fmt.Sprintf("ms %s %d%s", key, size, b)
		if p.Extras != "" {
			line += strings.ReplaceAll(fmt.Sprintf(" F%d T%s ", number(0, 4), time(4)), " F0 ", " ")
			line = strings.TrimSuffix(strings.TrimSuffix(line, " "), " T0")
		}
		if mode := strings.ToUpper(word[:1]); strings.Contains("AP", mode) && word != "add" {
			line += " M" + mode
		} else if word != "set" && cas == "" {
			line += map[string]string{"add": " ME", "replace": " MR"}[word]
		}
		return line + cas + strings.TrimPrefix(says, " v") + "\r\n", ""
	case "incr", "decr":
		line = "ma " + key + b
		if number(16, 4) != 1<<32-1 {
			line += fmt.Sprintf(" N%s J%d", time(16), number(8, 8))
		}
		line += fmt.Sprint(" D", number(0, 8)) + map[string]string{"decr": " MD"}[word]
		return line + cas + says + "\r\n", ""
	case "delete":
		return "md " + key + b + cas + "\r\n", ""
	case "flush_all":
		if p.Extras != "" {
			word += " " + time(0)
		}
		return word + "\r\n", ""
	case "stats":
		if coded {
			key = "?"
		}
		return strings.TrimSpace("stats "+key) + "\r\n", ""
	}
	return word, ""
}
