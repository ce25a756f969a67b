package metrics

import "github.com/prometheus/client_golang/prometheus"

// kind is the type of a metric, in Prometheus' word for it.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// metric is one name, and what stands behind it. OPERATIONS.md has a line for each.
type metric struct {
	name, help string
	kind       kind
	labels     []string
	desc       *prometheus.Desc
}

// all is every metric, in the order of the document. It is complete when the package is
// initialised, and does not change after that.
var all []*metric

func define(k kind, name, help string, labels ...string) *metric {
	m := &metric{name: "magent_" + name, help: help, kind: k, labels: labels}
	m.desc = prometheus.NewDesc(m.name, m.help, m.labels, nil)
	all = append(all, m)
	return m
}

// The process.
var (
	buildInfo   = define(gauge, "build_info", "1. The version is in the labels.", "version", "commit", "goversion")
	reloads     = define(counter, "reloads_total", "Reloads of the configuration file that were asked for. The result is done, refused for a fault, or failed as no process came to put it in force.", "result")
	configRead  = define(gauge, "config_read_timestamp_seconds", "When the configuration that is in force was read.")
	logWithheld = define(counter, "log_withheld_total", "Slow and failed requests that were not logged, as too many were.")
	logLost     = define(counter, "log_lost_total", "Lines of the log that were lost, as they were not written fast enough.")
	loops       = define(gauge, "loops", "Event loops.")
	loopsSilent = define(gauge, "loops_silent", "Loops that did not answer this scrape within a second. What they count is as it was when they last did.")
)

// Clients.
var (
	clients         = define(gauge, "clients", "Clients connected.")
	clientsAccepted = define(counter, "clients_accepted_total", "Clients ever taken.")
	clientsRefused  = define(counter, "clients_refused_total", "Clients turned away as there were -n already.")
	clientsBarred   = define(counter, "clients_barred_total", "Clients turned away as their address is not in --allow.")
	clientsCrowded  = define(counter, "clients_crowded_total", "Clients turned away as there were --client-conns of their address already.")
	clientsIdle     = define(counter, "clients_idle_total", "Clients closed as they were silent for --idle-timeout.")
	clientSlowed    = define(counter, "client_slowdowns_total", "Times that a client had to wait as its address was ahead of --client-rate.")
	clientsOverrun  = define(counter, "clients_overrun_total", "Clients closed as they did not read their replies.")
	handshakes      = define(counter, "tls_handshakes_total", "Handshakes of TLS with clients, on --tls-port. The result is done or failed.", "result")
	authentications = define(counter, "authentications_total", "Times that a client said who it is, with --auth-file. The result is known or denied.", "result")
	clientReceived  = define(counter, "client_received_bytes_total", "Bytes that clients sent.")
	clientSent      = define(counter, "client_sent_bytes_total", "Bytes that clients were sent.")

	commands = define(counter, "commands_total", "Commands read from clients; of a binary one, the text command that asks for the same. It is empty if it is none that magent knows, or not as it must be.", "command")
	slow     = define(counter, "slow_requests_total", "Requests that took --slow or longer, logged or not. 0 without --slow.")
	denied   = define(counter, "commands_denied_total", "Commands refused as they are in --deny.")
	lowered  = define(counter, "ttls_lowered_total", "Commands whose exptime was lowered to --max-ttl.")
	answers  = define(counter, "answers_total", "What became of them; of a get of several keys, of each key. The result is ok, hit, miss, not_found, not_stored, exists or error.", "command", "result")
	took     = define(histogram, "answer_duration_seconds", "From the arrival of a command to its answer, of those that nodes are asked for; of each key of a get. The kind is read or write.", "kind")
)

// What is done when a node does not answer, or is late.
var (
	failovers      = define(counter, "failovers_total", "Requests moved to another replica, by what was wrong with the one before.", "cause")
	retries        = define(counter, "retries_total", "Reads asked again.")
	retriesRefused = define(counter, "retries_refused_total", "Reads that failed as too many were being asked again.")
	hedges         = define(counter, "hedges_total", "Late reads asked of a second replica, too.")
	hedgesWon      = define(counter, "hedges_won_total", "Of these, answered first by the second.")
	hedgesRefused  = define(counter, "hedges_refused_total", "Late reads not asked of a second replica as too many were.")
	debtNoted      = define(counter, "debt_noted_total", "Keys noted as debt: writes that a node missed, or may have.")
)

// Keys that have another place than before.
var (
	foundFormerly = define(counter, "found_formerly_total", "Reads that found the key where it was before a change of placement.")
	moved         = define(counter, "moved_total", "Keys moved from where they were before a change of placement.")
)

// Repairs of keys whose copies differ.
var (
	repairsAsked   = define(counter, "repairs_asked_total", "Repairs wished for, by cause.", "cause")
	repairsJoined  = define(counter, "repairs_joined_total", "Of these, done by one that was wished for before.")
	repairsRefused = define(counter, "repairs_refused_total", "Of these, not begun as too many waited.")
	repairsEnded   = define(counter, "repairs_ended_total", "Repairs that came to an end, by outcome.", "outcome")
	repairsWaiting = define(gauge, "repairs_waiting", "Keys that wait to be repaired.")
	repairsRunning = define(gauge, "repairs_running", "Keys that are being repaired.")
)

// Memory that requests and replies are in.
var (
	chunks      = define(gauge, "chunks", "Chunks of memory, 16 KB each or one large request, with requests that are not answered; each connection to a node keeps one.")
	bufferSpare = define(gauge, "buffer_spare_bytes", "Memory kept to be used again, for requests, for replies that are put together, and for held ones, which wait for their turn.", "use")
)

// Nodes, each by its pool and its name.
var (
	nodeInfo      = define(gauge, "node_info", "1. The first copy it serves, and the version that it says it is, are in the labels.", "pool", "node", "copy", "version")
	nodeState     = define(gauge, "node_state", "1 for the state that the node is in, 0 for the others: up, slow, warming, stale, down.", "pool", "node", "state")
	nodeSince     = define(gauge, "node_state_timestamp_seconds", "Unix time at which it came into its state.", "pool", "node")
	nodeChanges   = define(counter, "node_state_changes_total", "How often its state has changed.", "pool", "node")
	nodeFalls     = define(counter, "node_falls_total", "How often it went down, by cause. A cause is shown when it has happened.", "pool", "node", "cause")
	nodeFlaps     = define(gauge, "node_flaps", "Falls that damping has not forgotten.", "pool", "node")
	nodeHeld      = define(gauge, "node_held_seconds", "For how long damping holds it back yet.", "pool", "node")
	nodeDrained   = define(gauge, "node_drained", "1 while it is drained by hand.", "pool", "node")
	nodeProbes    = define(counter, "node_probes_total", "Probes of it.", "pool", "node")
	nodeProbesBad = define(counter, "node_probe_failures_total", "Of these, failed.", "pool", "node")
	nodeProbeTook = define(gauge, "node_probe_duration_seconds", "Round trip of the latest good probe; 0 before the first.", "pool", "node")
	nodeDebt      = define(gauge, "node_debt_keys", "Keys of which it missed a write, and has not been told yet.", "pool", "node")
	nodeConns     = define(gauge, "node_connections", "Connections to it.", "pool", "node")
	nodeInFlight  = define(gauge, "node_requests_in_flight", "Requests that it has not answered.", "pool", "node")
	nodeTook      = define(histogram, "node_request_duration_seconds", "From the flush of a request to it to the end of its answer; magent's own requests beside the clients' are in it, probes and refills are not.", "pool", "node")
	nodeReads     = define(counter, "node_reads_total", "Keys that clients asked it for, by whether it had them: the result is hit or miss.", "pool", "node", "result")
	nodeReceived  = define(counter, "node_received_bytes_total", "Bytes that it sent.", "pool", "node")
	nodeSent      = define(counter, "node_sent_bytes_total", "Bytes that it was sent.", "pool", "node")
)

// The refill of a node, while it is this magent that does it.
var (
	refillDone  = define(gauge, "refill_done_keys", "Keys looked at.", "pool", "node")
	refillTotal = define(gauge, "refill_expected_keys", "Keys to be looked at, of the sources listed so far; 0: not known yet.", "pool", "node")
	refillKeys  = define(gauge, "refill_keys_per_second", "Keys a second, of late.", "pool", "node")
	refillBytes = define(gauge, "refill_bytes_per_second", "Bytes of values a second, of late.", "pool", "node")
	refillRate  = define(gauge, "refill_rate_ratio", "The part of --resync-rate that it takes: below 1 it gives way to clients.", "pool", "node")
	refillETA   = define(gauge, "refill_eta_seconds", "Seconds to go, if it can be told.", "pool", "node")
)
