package evidence

import "strings"

// Outcome is what came of a rung, a component or a control (rule R4).
type Outcome string

// The outcomes. Skipped is not an outcome of the relay: what it needed to
// stand on had failed, or nobody asked.
const (
	OK      Outcome = "ok"
	Fail    Outcome = "fail"
	Busy    Outcome = "busy"
	Blind   Outcome = "blind"
	Skipped Outcome = "skipped"
)

// Component is one of the three things the bounty requires of a relay (rule R3).
type Component string

// The components, in the ladder's order.
const (
	TCP4  Component = "tcp4"
	WSS   Component = "wss"
	Relay Component = "relay"
)

// Components lists them in the ladder's order.
var Components = []Component{TCP4, WSS, Relay}

// Level says how far the component relay came (rule R3).
type Level int

// The levels.
const (
	LevelNone      Level = 0 // no reservation
	LevelReserved  Level = 1 // L1: the relay granted a reservation
	LevelConnected Level = 2 // L2: its CONNECT through the circuit was answered OK
	LevelHandshake Level = 3 // L3: the end-to-end Noise handshake finished
	LevelEchoed    Level = 4 // L4: 4 KiB of random bytes came back equal
)

// Attempt is one climb of the probe ladder against one relay: facts, with the
// protocols' own status codes. Nothing in it says "up".
type Attempt struct {
	// Started is when the first rung began; it decides the hour of a first attempt.
	Started Time `json:"started"`
	// PeerID is the relay that was asked for, TCP4Addr and WSSAddr the multiaddrs
	// that were dialled; an empty one was not asked for.
	PeerID   string `json:"peer_id"`
	TCP4Addr string `json:"tcp4_addr,omitempty"`
	WSSAddr  string `json:"wss_addr,omitempty"`
	// Rungs are in the ladder's order.
	Rungs []Rung `json:"rungs"`
	// Results holds an entry for each of the three components.
	Results map[Component]Result `json:"results"`
	// Level is how far the component relay came.
	Level Level `json:"level"`
	Facts Facts `json:"facts"`
	// Controls are what the monitor's own line did near this attempt (rule R5).
	Controls []Control `json:"controls,omitempty"`
	// Stepped says that the monitor's clock was set, or its machine slept, while the
	// attempt or its controls were under way: no time in it can be relied on (rule R9).
	Stepped bool `json:"stepped,omitempty"`
}

// Result is the outcome of a component: that of its last rung that was climbed.
type Result struct {
	Outcome    Outcome `json:"outcome"`
	Class      Class   `json:"class,omitempty"`
	DurationUS int64   `json:"duration_us"`
}

// Rung is one step of the ladder. OffsetUS counts from the attempt's start.
type Rung struct {
	Name       string    `json:"name"`
	Component  Component `json:"component,omitempty"` // empty: recorded, part of no vote (announce)
	Outcome    Outcome   `json:"outcome"`
	Class      Class     `json:"class,omitempty"`  // why, in one stable word; empty when ok
	Detail     string    `json:"detail,omitempty"` // why, for a person; at most 300 bytes
	OffsetUS   int64     `json:"offset_us"`
	DurationUS int64     `json:"duration_us"`
	// Tries is how often it was tried, if more than once: what timed out is tried again
	// while the rung's time lasts.
	Tries int `json:"tries,omitempty"`
}

// Facts is what was seen on the way, also when it ended in failure.
type Facts struct {
	AgentVersion string   `json:"agent_version,omitempty"` // self-reported by identify
	Protocols    []string `json:"protocols,omitempty"`     // from identify, sorted
	ResolvedIPv4 []string `json:"resolved_ipv4,omitempty"` // A records of the wss name, sorted
	// LookupRetries is how often the name was asked for again, since no answer came.
	LookupRetries int `json:"lookup_retries,omitempty"`
	// Lookups are there when wss had failed and other resolvers were asked: first the
	// monitor's own word, then theirs, at most 9.
	Lookups     []Lookup     `json:"lookups,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"` // the leaf that was shown
	HTTPStatus  int          `json:"http_status,omitempty"` // answer to the websocket upgrade
	PingUS      []int64      `json:"ping_us,omitempty"`     // libp2p ping over tcp4, in order
	// HopReserve and HopConnect are the circuit v2 status codes; 0: none was received.
	HopReserve  int32        `json:"hop_reserve,omitempty"`
	HopConnect  int32        `json:"hop_connect,omitempty"`
	Reservation *Reservation `json:"reservation,omitempty"`
	CircuitAddr string       `json:"circuit_addr,omitempty"` // remote multiaddr of the connection that carried the echo
	Announced   string       `json:"announced,omitempty"`    // broadcastedAt of the announcement that was heard
}

// Lookup is what one resolver says of the wss name: addresses or a class.
type Lookup struct {
	// Resolver is "own" or ADDR#NAME or ADDR:PORT#NAME, at most 256 bytes.
	Resolver string   `json:"resolver"`
	IPv4     []string `json:"ipv4,omitempty"` // A records, sorted, at most 16
	// Class is name-not-found, no-a-record or name-lookup, or resolver if it said nothing.
	Class Class `json:"class,omitempty"`
}

// Words are the answer for a person.
func (l Lookup) Words() string {
	if l.Class == Resolver {
		return "no answer"
	}
	if l.Class != "" {
		return string(l.Class)
	}
	return strings.Join(l.IPv4, " ")
}

// OwnResolver stands for the resolver of the monitor's own machine.
const OwnResolver = "own"

// Certificate is the leaf a server showed, whether or not it was accepted.
type Certificate struct {
	SHA256    string   `json:"sha256"` // of the DER, hex
	Issuer    string   `json:"issuer"`
	DNSNames  []string `json:"dns_names,omitempty"`
	NotBefore Time     `json:"not_before"`
	NotAfter  Time     `json:"not_after"`
}

// Reservation is what the relay granted to the peer that asked.
type Reservation struct {
	Peer   string `json:"peer"`             // the reserving peer: the nonce that binds the voucher to the hour
	Salt   []byte `json:"salt,omitempty"`   // with it a verifier derives Peer again
	Beacon []byte `json:"beacon,omitempty"` // drand quicknet round that went into Peer, if one did
	// Cosigned is a checkpoint of this log with one witness's cosignature, a note, that
	// went into Peer, if one did.
	Cosigned     string   `json:"cosigned,omitempty"`
	Voucher      []byte   `json:"voucher,omitempty"` // the relay's signed envelope, as received
	Expires      Time     `json:"expires"`
	Addrs        []string `json:"addrs,omitempty"`
	LimitBytes   int64    `json:"limit_bytes,omitempty"`   // per direction; 0: no limit
	LimitSeconds int64    `json:"limit_seconds,omitempty"` // 0: no limit
}

// Control is what was tried at a host of the roster's control list, in as many round
// trips as a relay is: it tells whether the monitor's own line worked. Tried several
// times beside one rung, it is ok if it was every time; Started is then of the first
// time, DurationUS the longest, and the packets are those of the time that lost most.
type Control struct {
	Name       string    `json:"name"`
	Component  Component `json:"component"`
	Outcome    Outcome   `json:"outcome"`
	Started    Time      `json:"started"`
	DurationUS int64     `json:"duration_us"`
	// Sent are the packets that the monitor sent for it, Resent those of them that
	// it sent again since no answer came.
	Sent   int64 `json:"sent,omitempty"`
	Resent int64 `json:"resent,omitempty"`
}

// Record is all that one monitor holds of one relay and one hour.
type Record struct {
	PeerID   string    `json:"peer_id"`
	Hour     Hour      `json:"hour"`
	Attempts []Attempt `json:"attempts"` // in order of their start
	// Plan is the proof of when the first attempt was due, see [PlanText].
	Plan    []byte `json:"plan,omitempty"`
	Version int    `json:"version"` // [FormatVersion]
}
