package codec

// Fault is what memcached answers to a request that it does not carry out.
type Fault uint8

// The faults, in memcached's words. FaultClose is no answer but a closed connection.
const (
	FaultNone Fault = iota
	FaultError
	FaultFormat
	FaultDeleteUsage
	FaultExptime
	FaultDelta
	FaultChunk
	FaultTooLarge
	FaultFlagsTooLong
	FaultOptionsTooLong
	FaultShutdown
	FaultFlush
	FaultClose
	numFaults
)

var faults = [numFaults]string{
	FaultNone:           "",
	FaultError:          "ERROR\r\n",
	FaultFormat:         "CLIENT_ERROR bad command line format\r\n",
	FaultDeleteUsage:    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
	FaultExptime:        "CLIENT_ERROR invalid exptime argument\r\n",
	FaultDelta:          "CLIENT_ERROR invalid numeric delta argument\r\n",
	FaultChunk:          "CLIENT_ERROR bad data chunk\r\n",
	FaultTooLarge:       "SERVER_ERROR object too large for cache\r\n",
	FaultFlagsTooLong:   "CLIENT_ERROR options flags are too long\r\n",
	FaultOptionsTooLong: "CLIENT_ERROR options flags too long\r\n",
	FaultShutdown:       "ERROR: shutdown not enabled\r\n",
	FaultFlush:          "CLIENT_ERROR flush_all not allowed\r\n",
	FaultClose:          "",
}

// Line is the answer on the wire, with CRLF; empty for FaultNone and FaultClose.
func (f Fault) Line() string { return faults[f] }
