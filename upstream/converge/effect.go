package converge

import (
	"bytes"

	"magent/codec"
)

// Effect is what a follower is told once the lead has answered.
type Effect uint8

const (
	Nothing Effect = iota
	Set            // the item that was stored; the answer names its version
	Delete         // the key goes
	Forget         // the key goes, and nobody looks back
	Touch          // the item gets a TTL
	Copy           // the follower becomes what the lead is: a repair
	numEffects
)

var effects = [numEffects]string{"nothing", "set", "delete", "forget", "touch", "copy"}

func (e Effect) String() string { return effects[e] }

// EffectOf says what the lead's answer to req means for the followers. answer is
// the lead's reply, of which the first line counts, to what AppendLead made of the
// request.
func EffectOf(req *codec.Request, answer []byte) Effect {
	status := statusOf(answer)
	switch req.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas:
		return stored(answer, status)
	case codec.OpMetaSet:
		if status == done && Relative(req) {
			return Copy
		}
		if status == done && req.Meta.Has('I') && req.Meta.Has('C') {
			return Copy // it may have been stored as stale, and the answer does not say
		}
		return stored(answer, status)
	case codec.OpAppend, codec.OpPrepend:
		if status == refused { // as an ms it has cost the lead the old item
			return Delete
		}
		return copied(status)
	case codec.OpIncr, codec.OpDecr:
		return copied(status)
	case codec.OpMetaArith:
		if bytes.HasPrefix(answer, []byte("CLIENT_ERROR opaque")) {
			return Copy // memcached counts first, and then finds the opaque too long
		}
		return copied(status)
	case codec.OpDelete:
		if status == done || status == missing {
			return Delete
		}
	case codec.OpMetaDelete:
		guarded := req.Meta.Has('C')
		switch {
		case status == missing && !guarded:
			return Delete
		case status == done && (req.Meta.Has('I') || req.Meta.Has('x')):
			return Forget
		case status == done && guarded:
			return Copy // a plain md might hit what the condition does not allow
		case status == done:
			return Delete
		}
	case codec.OpTouch, codec.OpGat, codec.OpGats:
		if status == done {
			return Touch
		}
	case codec.OpMetaGet:
		return read(req, answer, status)
	}
	return Nothing
}

// stored is the effect of a command that the lead got as an ms: memcached unlinks
// the old item if it has no room for the new one, whatever the mode.
func stored(answer []byte, status status) Effect {
	switch {
	case status == refused:
		return Delete
	case status != done:
		return Nothing
	case versionOf(answer) == 0:
		return Copy
	}
	return Set
}

// copied is the effect of a relative step.
func copied(status status) Effect {
	if status == done {
		return Copy
	}
	return Nothing
}

// read is the effect of an mg: it may set a TTL, or make an empty item.
func read(req *codec.Request, answer []byte, status status) Effect {
	line, _, _ := bytes.Cut(answer, []byte("\r\n"))
	switch {
	case status != done:
		return Nothing
	case req.Meta.Has('N') && bytes.Contains(line[2:], []byte(" W")):
		return Copy
	case req.Meta.Has('T'):
		return Touch
	}
	return Nothing
}

// status is what an answer says, in either form of the protocol.
type status uint8

const (
	other   status = iota // a condition did not hold, or the client was at fault
	done                  // HD, VA, STORED, DELETED, TOUCHED, a number, VALUE
	missing               // NF, NOT_FOUND, EN
	refused               // SERVER_ERROR
)

func statusOf(b []byte) status {
	switch {
	case len(b) == 0:
		return other
	case b[0] >= '0' && b[0] <= '9':
		return done
	case len(b) < 2:
		return other
	}
	switch string(b[:2]) {
	case "HD", "VA", "ST", "DE", "TO":
		return done
	case "NF", "EN":
		return missing
	case "SE":
		return refused
	case "NO":
		if bytes.HasPrefix(b, []byte("NOT_FOUND")) {
			return missing
		}
	}
	return other
}
