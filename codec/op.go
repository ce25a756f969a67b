package codec

// Op is one memcached operation, whichever wire form it came in.
type Op uint8

// The operations. OpNone is a line that no node is asked about: Request.Fault
// says what to answer.
const (
	OpNone Op = iota
	OpGet
	OpGets
	OpGat
	OpGats
	OpSet
	OpAdd
	OpReplace
	OpAppend
	OpPrepend
	OpCas
	OpIncr
	OpDecr
	OpTouch
	OpDelete
	OpMetaGet
	OpMetaSet
	OpMetaDelete
	OpMetaArith
	OpMetaDebug
	OpMetaNoop
	OpFlushAll
	OpVerbosity
	OpVersion
	OpStats
	OpQuit
	NumOps
)

// Class says how a request is served; the data path reads it instead of the Op.
type Class uint8

const (
	ClassLocal     Class = iota // the proxy answers by itself
	ClassRead                   // one replica answers; asking twice is as good as once
	ClassStore                  // carries a value
	ClassWrite                  // changes a key, carries no value
	ClassBroadcast              // every node is told
)

type opInfo struct {
	name  string
	class Class
	meta  bool
	lines Shape
}

// Shape says what the reply to an Op looks like on the wire.
type Shape uint8

const (
	ShapeLine   Shape = iota // one line
	ShapeValues              // VALUE blocks, then END
	ShapeMeta                // one line, and a value if it begins with VA
	ShapeStats               // STAT lines, then END
)

var ops = [NumOps]opInfo{
	OpNone:       {name: "", class: ClassLocal},
	OpGet:        {name: "get", class: ClassRead, lines: ShapeValues},
	OpGets:       {name: "gets", class: ClassRead, lines: ShapeValues},
	OpGat:        {name: "gat", class: ClassWrite, lines: ShapeValues},
	OpGats:       {name: "gats", class: ClassWrite, lines: ShapeValues},
	OpSet:        {name: "set", class: ClassStore},
	OpAdd:        {name: "add", class: ClassStore},
	OpReplace:    {name: "replace", class: ClassStore},
	OpAppend:     {name: "append", class: ClassStore},
	OpPrepend:    {name: "prepend", class: ClassStore},
	OpCas:        {name: "cas", class: ClassStore},
	OpIncr:       {name: "incr", class: ClassWrite},
	OpDecr:       {name: "decr", class: ClassWrite},
	OpTouch:      {name: "touch", class: ClassWrite},
	OpDelete:     {name: "delete", class: ClassWrite},
	OpMetaGet:    {name: "mg", class: ClassRead, meta: true, lines: ShapeMeta},
	OpMetaSet:    {name: "ms", class: ClassStore, meta: true, lines: ShapeMeta},
	OpMetaDelete: {name: "md", class: ClassWrite, meta: true, lines: ShapeMeta},
	OpMetaArith:  {name: "ma", class: ClassWrite, meta: true, lines: ShapeMeta},
	OpMetaDebug:  {name: "me", class: ClassRead, meta: true, lines: ShapeMeta},
	OpMetaNoop:   {name: "mn", class: ClassLocal, meta: true, lines: ShapeMeta},
	OpFlushAll:   {name: "flush_all", class: ClassBroadcast},
	OpVerbosity:  {name: "verbosity", class: ClassBroadcast},
	OpVersion:    {name: "version", class: ClassLocal},
	OpStats:      {name: "stats", class: ClassBroadcast, lines: ShapeStats},
	OpQuit:       {name: "quit", class: ClassLocal},
}

// String is the command's word on the wire.
func (o Op) String() string { return ops[o].name }

// OpNamed is the operation whose word is name; false if there is none.
func OpNamed(name string) (Op, bool) {
	for op := OpNone + 1; op < NumOps; op++ {
		if ops[op].name == name {
			return op, true
		}
	}
	return OpNone, false
}

// Class says how o is served.
func (o Op) Class() Class { return ops[o].class }

// Meta reports whether o is one of the meta commands.
func (o Op) Meta() bool { return ops[o].meta }

// Shape says what the reply to o looks like.
func (o Op) Shape() Shape { return ops[o].lines }

// MultiKey reports whether o takes any number of keys.
func (o Op) MultiKey() bool { return o >= OpGet && o <= OpGats }
