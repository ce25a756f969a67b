package upstream

import "magent/codec"

// fits reports whether line, a reply of the right shape, is one that a memcached
// gives to op: a STORED cannot answer an incr. A node that is out of step by one
// reply is found out by this where there is no key to compare.
// (complete_nread_ascii, process_*_command and doc/protocol.txt of memcached.)
func fits(op codec.Op, kind codec.Kind, line []byte) bool {
	switch {
	case kind == codec.KindError:
		return true
	case op.Shape() == codec.ShapeMeta:
		return fitsMeta(op, line)
	case op.Shape() != codec.ShapeLine:
		return true
	}
	switch line[0] {
	case 'S': // STORED
		return op.Class() == codec.ClassStore
	case 'N': // NOT_STORED, NOT_FOUND
		if line[4] == 'S' {
			return op.Class() == codec.ClassStore
		}
		return op == codec.OpCas || op.Class() == codec.ClassWrite
	case 'E': // EXISTS
		return op == codec.OpCas
	case 'D': // DELETED
		return op == codec.OpDelete
	case 'T': // TOUCHED
		return op == codec.OpTouch
	case 'O': // OK
		return op == codec.OpFlushAll || op == codec.OpVerbosity
	case 'V': // VERSION
		return op == codec.OpVersion
	}
	return op == codec.OpIncr || op == codec.OpDecr // digits
}

// fitsMeta is fits for the two letters that a meta reply begins with.
func fitsMeta(op codec.Op, line []byte) bool {
	switch string(line[:2]) {
	case "HD":
		return op != codec.OpMetaDebug && op != codec.OpMetaNoop
	case "VA":
		return op == codec.OpMetaGet || op == codec.OpMetaArith
	case "EN":
		return op == codec.OpMetaGet || op == codec.OpMetaDebug
	case "ME":
		return op == codec.OpMetaDebug
	case "MN":
		return op == codec.OpMetaNoop
	case "NF", "EX":
		return op == codec.OpMetaSet || op == codec.OpMetaDelete || op == codec.OpMetaArith
	case "NS":
		return op == codec.OpMetaSet || op == codec.OpMetaArith
	}
	return false
}
