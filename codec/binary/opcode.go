// Package binary is memcached's binary protocol towards clients: Parse reads a
// request, AppendLine puts it as a line of the text protocol, which is what nodes are
// asked in, and AppendReply puts what they answer as a binary response. (The source
// of every rule here is memcached 1.6.18: its proto_bin.c, protocol_binary.h, and what
// it answers.)
//
// Everything works on the caller's buffers; nothing allocates, blocks or keeps a
// reference. Any goroutine may call it. It imports codec, codec/text and std.
package binary

import "magent/codec"

// Magic is the first byte of a request, and so of a connection that speaks this
// protocol. No command of the text protocol begins with it.
const Magic = 0x80

// magicReply is the first byte of a response.
const magicReply = 0x81

// HeaderSize is the bytes of a header, of either kind.
const HeaderSize = 24

// Opcode is the second byte of a header: the command.
type Opcode uint8

// The commands. A Q behind the name is the quiet form, which keeps the answer that is
// no news to itself; a K, the one whose answer says the key.
const (
	Get Opcode = iota
	Set
	Add
	Replace
	Delete
	Increment
	Decrement
	Quit
	Flush
	GetQ
	Noop
	Version
	GetK
	GetKQ
	Append
	Prepend
	Stat
	SetQ
	AddQ
	ReplaceQ
	DeleteQ
	IncrementQ
	DecrementQ
	QuitQ
	FlushQ
	AppendQ
	PrependQ
	Verbosity
	Touch
	GAT
	GATQ
	SASLList  Opcode = 0x20
	SASLAuth  Opcode = 0x21
	SASLStep  Opcode = 0x22
	GATK      Opcode = 0x23
	GATKQ     Opcode = 0x24
	opcodeEnd Opcode = 0x25
)

// trait is what is special about a command.
type trait uint8

const (
	known    trait = 1 << iota
	quiet          // a Q
	named          // a K
	keyed          // it must have a key
	maybeKey       // it may have one
	valued         // a value may follow the key
	unserved       // it is taken apart, and answered as if nobody knew it
)

// form is the shape that a command must have.
type form struct {
	traits trait
	loud   Opcode   // the command itself, without Q and K
	extras [2]uint8 // how many bytes of extras there may be
	op     codec.Op // what it is as text
}

// (dispatch_bin_command of memcached. It has no verbosity, and knows SASL without
// -S only so far that it looks at the shape: so here, where the caller may know more.)
var forms = [256]form{
	Get:        {known | keyed, Get, [2]uint8{0, 0}, codec.OpGets},
	GetQ:       {known | keyed | quiet, Get, [2]uint8{0, 0}, codec.OpGets},
	GetK:       {known | keyed | named, Get, [2]uint8{0, 0}, codec.OpGets},
	GetKQ:      {known | keyed | named | quiet, Get, [2]uint8{0, 0}, codec.OpGets},
	Touch:      {known | keyed, Touch, [2]uint8{4, 4}, codec.OpMetaGet},
	GAT:        {known | keyed, GAT, [2]uint8{4, 4}, codec.OpGats},
	GATQ:       {known | keyed | quiet, GAT, [2]uint8{4, 4}, codec.OpGats},
	GATK:       {known | keyed | named, GAT, [2]uint8{4, 4}, codec.OpGats},
	GATKQ:      {known | keyed | named | quiet, GAT, [2]uint8{4, 4}, codec.OpGats},
	Set:        {known | keyed | valued, Set, [2]uint8{8, 8}, codec.OpMetaSet},
	SetQ:       {known | keyed | valued | quiet, Set, [2]uint8{8, 8}, codec.OpMetaSet},
	Add:        {known | keyed | valued, Add, [2]uint8{8, 8}, codec.OpMetaSet},
	AddQ:       {known | keyed | valued | quiet, Add, [2]uint8{8, 8}, codec.OpMetaSet},
	Replace:    {known | keyed | valued, Replace, [2]uint8{8, 8}, codec.OpMetaSet},
	ReplaceQ:   {known | keyed | valued | quiet, Replace, [2]uint8{8, 8}, codec.OpMetaSet},
	Append:     {known | keyed | valued, Append, [2]uint8{0, 0}, codec.OpMetaSet},
	AppendQ:    {known | keyed | valued | quiet, Append, [2]uint8{0, 0}, codec.OpMetaSet},
	Prepend:    {known | keyed | valued, Prepend, [2]uint8{0, 0}, codec.OpMetaSet},
	PrependQ:   {known | keyed | valued | quiet, Prepend, [2]uint8{0, 0}, codec.OpMetaSet},
	Delete:     {known | keyed, Delete, [2]uint8{0, 0}, codec.OpMetaDelete},
	DeleteQ:    {known | keyed | quiet, Delete, [2]uint8{0, 0}, codec.OpMetaDelete},
	Increment:  {known | keyed, Increment, [2]uint8{20, 20}, codec.OpMetaArith},
	IncrementQ: {known | keyed | quiet, Increment, [2]uint8{20, 20}, codec.OpMetaArith},
	Decrement:  {known | keyed, Decrement, [2]uint8{20, 20}, codec.OpMetaArith},
	DecrementQ: {known | keyed | quiet, Decrement, [2]uint8{20, 20}, codec.OpMetaArith},
	Flush:      {known, Flush, [2]uint8{0, 4}, codec.OpFlushAll},
	FlushQ:     {known | quiet, Flush, [2]uint8{0, 4}, codec.OpFlushAll},
	Stat:       {known | maybeKey, Stat, [2]uint8{0, 0}, codec.OpStats},
	Noop:       {known, Noop, [2]uint8{0, 0}, codec.OpMetaNoop},
	Version:    {known, Version, [2]uint8{0, 0}, codec.OpVersion},
	Quit:       {known, Quit, [2]uint8{0, 0}, codec.OpQuit},
	QuitQ:      {known | quiet, Quit, [2]uint8{0, 0}, codec.OpQuit},
	SASLList:   {known | unserved, SASLList, [2]uint8{0, 0}, codec.OpNone},
	SASLAuth:   {known | unserved | keyed | valued, SASLAuth, [2]uint8{0, 0}, codec.OpNone},
	SASLStep:   {known | unserved | keyed | valued, SASLStep, [2]uint8{0, 0}, codec.OpNone},
}

func (o Opcode) is(t trait) bool { return forms[o].traits&t != 0 }

// Quiet reports whether o keeps an answer that is no news to itself: that a write was
// done, or that a key was not found.
func (o Opcode) Quiet() bool { return o.is(quiet) }

// Named reports whether the answer to o says the key.
func (o Opcode) Named() bool { return o.is(named) }

// wordsOf is the classic command that does what a loud one does.
var wordsOf = [opcodeEnd]codec.Op{
	Get: codec.OpGet, GAT: codec.OpGat, Touch: codec.OpTouch, Delete: codec.OpDelete,
	Set: codec.OpSet, Add: codec.OpAdd, Replace: codec.OpReplace, Append: codec.OpAppend, Prepend: codec.OpPrepend,
	Increment: codec.OpIncr, Decrement: codec.OpDecr,
	Flush: codec.OpFlushAll, Stat: codec.OpStats, Version: codec.OpVersion, Noop: codec.OpMetaNoop, Quit: codec.OpQuit,
}

// Word is the command of the text protocol that does what o does, by which people call
// both. It is not what nodes are asked with. o must have been parsed without a fault.
func (o Opcode) Word() codec.Op { return wordsOf[o.Loud()] }

// Loud is o without its Q and its K.
func (o Opcode) Loud() Opcode { return forms[o].loud }
